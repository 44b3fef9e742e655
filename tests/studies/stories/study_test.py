"""The study at a minimal size, and its parts against counts by hand."""

import functools
import json

import jax
import numpy as np
import pytest

from configs import routing_stories
from experiments.routing_stories import run
from undo_jax.data import stories_words as words
from undo_jax.data import tokenizers
from undo_jax.models import expansion
from undo_jax.models.decoder import Decoder
from undo_jax.objectives.routed import FORGET, RETAIN, UNLABELLED
from undo_jax.studies import story_batches
from undo_jax.studies.stories import study
from undo_jax.training import state as state_lib
from undo_jax.utils.types import ConfigError


def test_labels_are_nested_and_weights_know_nothing_else():
  config = routing_stories.get_config("tiny")
  data = story_batches.load(config, 0)
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
  tokenizer = tokenizers.make(config.data.tokenizer)
  own = [tokenizer.encode(f" {word}")[0] for word in words.topic_words("forest")]
  means = [w["retain_weight_V"][own].mean() for w in (weights_0, weights, weights_1)]
  assert means[0] > means[1] > means[2]


def minimal():
  """Two methods of the tiny config: compiling all of them would take long."""
  config = routing_stories.get_config("tiny")
  config.methods = ("filtering", "era")
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  directory = tmp_path_factory.mktemp("stories")
  run(minimal(), directory)
  return directory


def test_the_other_methods_give_models_of_the_same_sizes():
  """Traced, not run; `methods_test` has their values."""
  config = routing_stories.get_config("tiny")
  programs = study.Programs(config)
  data = story_batches.load(config, 0)
  batches, frozen = study.labelled(config, data, 0.5)
  key = jax.random.key(0)
  fresh = jax.eval_shape(Decoder(programs.model).init, key)

  def trained(method, fresh):
    routing = programs.methods[method].routing
    params, new = study._expand(programs.model, routing, fresh, key)
    start = state_lib.create(params, programs.optimizer)
    end, _ = programs.methods[method].run(start, frozen, batches, key)
    return expansion.contract(routing.model, end.params, new)[1]

  first = {name: x[:3] for name, x in batches.items()}
  found = [jax.eval_shape(programs.rmu, fresh, first, key)]
  for method in ("era_coherent", "sgtm"):
    found.append(jax.eval_shape(functools.partial(trained, method), fresh))
  assert found == [fresh] * 3


def test_a_run_ends_in_results_of_every_model(finished):
  config = minimal()
  results = json.loads((finished / "results.json").read_text())
  names = ["base", "control", *(f"{method}_0.5" for method in config.methods)]
  assert list(results["models"]) == names
  base = results["models"]["base"]["seeds"]["0"]
  for name, model in results["models"].items():
    found = model["seeds"]["0"]
    curve = found["retrained"]["4"]
    assert curve["steps"] == [2, 4]
    lowest = min(found["after"]["forget"], *curve["forget"])
    before = found["before"]["forget"]
    np.testing.assert_allclose(found["robust_unlearning"], lowest - before)
    np.testing.assert_allclose(found["unlearning"], found["after"]["forget"] - before)
    assert model["mean"]["retain_after"] == found["after"]["retain"]
    own_before = name in ("control", "era_0.5")
    assert (found["before"] != base["after"]) == own_before, name
  assert "config.json" in {path.name for path in finished.iterdir()}
  for name in ("labels", "retraining"):
    png = (finished / f"figures/{name}.png").read_bytes()
    assert png.startswith(b"\x89PNG")
  assert len(study.table(results).splitlines()) == 2 + len(names)


def test_a_finished_study_computes_nothing(finished, monkeypatch):
  monkeypatch.setattr(study, "run_seed", None)
  run(minimal(), finished)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("methods", ("era",), "config.methods: expected 'filtering' and others of"),
    ("labelled", (0.5,), "config.labelled: expected fractions, the first of them 0"),
    ("labelled", (0.0, 2.0), r"config.labelled: expected a number in \[0, 1\]"),
    ("retrain.num_steps", 5, "config.retrain.num_steps: expected a multiple"),
    ("retrain.num_stories", (), "config.retrain.num_stories: .* at least one integer"),
    ("retrain.num_stories", (2.5,), r"config.retrain.num_stories: .* got \(2.5,\)"),
    ("retrain.learning_rates", ("a",), "config.retrain.learning_rates: .* all above 0"),
    ("routing.l1_weight", -1.0, "config.routing.l1_weight: .* of at least 0, got -1"),
    ("retrain.num_stories", (99,), "config.data.num_held_out: .* at least 115"),
    ("rmu.num_steps", 99, "config.rmu.num_steps: expected at most 12"),
    ("routing.layers", (2,), r"config.routing.layers: expected layers in \[0, 2\)"),
    ("routing.mlp_units", 0, "not both 0, got 0 and 0"),
    ("sgtm.kv_heads", -1, "needs mlp_units >= 0 and kv_heads >= 0"),
  ],
)
def test_a_wrong_field_is_named_before_compute(tmp_path, field, value, message):
  config = routing_stories.get_config("tiny")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    run(config, tmp_path)
  assert not list(tmp_path.iterdir())


def test_the_papers_size_is_valid(tmp_path):
  (tmp_path / "a.txt").write_text("A tree.")
  config = routing_stories.get_config("paper")
  config.data.update(paths=(str(tmp_path / "a.txt"),), tokenizer="bytes")
  config.lock()
  study.check(config)
  with pytest.raises(ConfigError, match="expected 80000 distinct forget stories"):
    story_batches.load(config, 0)
