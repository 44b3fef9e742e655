"""The study at a minimal size, and its parts against counts by hand."""

import json

import numpy as np
import pytest

from configs.gradient_routing import stories as config_file
from experiments.gradient_routing.stories import batches, corpus, study, words
from experiments.gradient_routing.stories import results as results_lib
from experiments.gradient_routing.stories.config import Config
from experiments.shared import running, typed
from undo_jax.objectives.routed import FORGET, RETAIN, UNLABELLED


def test_labels_are_nested_and_weights_know_nothing_else():
  config = typed.read(Config, config_file.get_config("tiny"))
  data = batches.load(config.data, config.train, 0)
  half, weights = study.labelled(config, data, 0.5)
  quarter, _ = study.labelled(config, data, 0.25)
  nothing, weights_0 = study.labelled(config, data, 0.0)
  everything, weights_1 = study.labelled(config, data, 1.0)
  topic = np.arange(8) < 4
  assert (everything["source"][:, topic] == FORGET).all()
  assert (nothing["source"][:, topic] == UNLABELLED).all()
  assert set(np.unique(half["source"][:, ~topic])) == {RETAIN, UNLABELLED}
  is_half, is_quarter = (b["source"] == FORGET for b in (half, quarter))
  assert (is_half | ~is_quarter).all() and is_half.sum() > is_quarter.sum() > 0
  assert np.unique(data.batches["story"][is_half]).max() == 31
  assert (half["source"] == RETAIN).sum() == (data.batches["story"] < 24)[:, 4:].sum()
  # By hand, token by token, from the rows that are labelled and all others.
  f, r = np.ones(276), np.full(276, 20.0)
  for index, tokens in enumerate(data.train["forget"].tokens):
    for token in tokens[data.train["forget"].mask[index] > 0]:
      (f if index < 32 else r)[token] += 1
  for index, tokens in enumerate(data.train["retain"].tokens):
    for token in tokens[data.train["retain"].mask[index] > 0]:
      r[token] += 1
  ratio = (f / f.sum()) / (r / r.sum())
  expected = 1 - 1 / (1 + np.exp(-(ratio - 1 / ratio - 4)))
  np.testing.assert_allclose(weights["retain_weight_V"], expected, rtol=1e-5)
  # The more is labelled, the more the topic's words are forget.
  tokenizer = corpus.make_tokenizer(config.data.tokenizer)
  own = [tokenizer.encode(f" {word}")[0] for word in words.topic_words("forest")]
  means = [w["retain_weight_V"][own].mean() for w in (weights_0, weights, weights_1)]
  assert means[0] > means[1] > means[2]


def minimal():
  """Two methods of the tiny config: compiling all of them would take long."""
  config = config_file.get_config("tiny")
  config.methods = ("filtering", "era")
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  directory = tmp_path_factory.mktemp("stories")
  running.run(study.make, minimal(), directory)
  return directory


def test_a_run_ends_in_results_of_every_model(finished):
  config = minimal()
  results = json.loads((finished / "results.json").read_text())
  names = ["base", "control", *(f"{method}_0.5" for method in config.methods)]
  assert list(results["models"]) == names
  base = results["models"]["base"]["seeds"]["0"]
  for name, model in results["models"].items():
    measured = model["seeds"]["0"]
    curve = measured["retrained"]["4"]
    assert curve["steps"] == [2, 4]
    lowest = min(measured["after"]["forget"], *curve["forget"])
    before = measured["before"]["forget"]
    np.testing.assert_allclose(measured["robust_unlearning"], lowest - before)
    np.testing.assert_allclose(
      measured["unlearning"], measured["after"]["forget"] - before
    )
    assert model["mean"]["retain_after"] == measured["after"]["retain"]
    own_before = name in ("control", "era_0.5")
    assert (measured["before"] != base["after"]) == own_before, name
  assert "config.json" in {path.name for path in finished.iterdir()}
  for name in ("labels", "retraining"):
    png = (finished / f"figures/{name}.png").read_bytes()
    assert png.startswith(b"\x89PNG")
  assert len(results_lib.table(results).splitlines()) == 2 + len(names)


def test_a_finished_study_computes_nothing(finished, monkeypatch):
  monkeypatch.setattr(study, "run_seed", None)
  running.run(study.make, minimal(), finished)
