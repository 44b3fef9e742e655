"""The language task on two made-up languages, from files to results."""

import json

import numpy as np
import pytest

from undo_jax import config as builders
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder, shapes
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import runs
from undo_jax.tasks import language as language_task
from undo_jax.training.checkpointing import load_params
from undo_jax.utils.types import ConfigError

SIZES = {
  "data.sequence_length": 16,
  "data.num_evaluation_rows": 8,
  "data.tokenizer": "bytes",
  **{
    f"data.{name}.{split}_fraction": 0.3
    for name in ("retain", "forget")
    for split in ("validation", "test")
  },
  "evaluation_rows": 16,
  "model.vocab_size": 264,
  "model.num_layers": 1,
  "model.width": 16,
  "model.head_dim": 4,
  "model.mlp_width": 16,
  "models.base.optimizer.num_steps": 40,
  "models.base.optimizer.learning_rate": 1e-2,
  "models.base.optimizer.final_learning_rate": 1e-2,
  "models.max_ent.run": False,
  "models.undo.run": False,
  "models.grad_diff.run": False,
  "models.rmu.run": False,
  "models.oracle_matching.run": False,
  "models.unlearn_and_distill.run": False,
  "attacks.relearn.num_steps": 4,
  "attacks.relearn.evaluate_every": 2,
  "attacks.relearn.learning_rates": (1e-3, 1e-2),
  "attacks.relearn.batch_size": 8,
  "report.budgets": (2,),
}


def write(path, syllables, seed):
  rng = np.random.default_rng(seed)
  lines = ["".join(rng.choice(list(syllables), 40)) for _ in range(60)]
  path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))


@pytest.fixture
def config(tmp_path):
  config = builders.shipped("language:tiny")
  for name, syllables in (("retain", "abcde"), ("forget", "가나다라")):
    path = tmp_path / f"{name}.jsonl"
    write(path, syllables, seed=len(name))
    config.data[name].paths = (str(path),)
  config.update_from_flattened_dict(SIZES)
  return config


@pytest.mark.usefixtures("one_device")
def test_the_whole_run(config, tmp_path):
  workdir = tmp_path / "run"
  runs.run_all(config, workdir)
  results = json.loads((workdir / "results.json").read_text())
  assert results["metrics"]["forget"]["unit"] == "nats per token"
  made = {name: model["runs"][0] for name, model in results["models"].items()}
  # Who never saw the second language predicts it worse than who did.
  before = {name: run["before"] for name, run in made.items()}
  assert before["data_filtering"]["forget"] > before["base"]["forget"] + 0.5
  for run in made.values():
    relearn = run["attacks"]["relearn"]
    by_rate = np.asarray(relearn["forget_by_learning_rate"])
    np.testing.assert_array_equal(relearn["forget_at_step"], by_rate.min(axis=0))
    # Up to each step, since an attacker may stop early.
    within = np.minimum.accumulate(by_rate.min(axis=0))
    np.testing.assert_array_equal(relearn["worst_forget"], within)
  assert (workdir / "report.html").exists()
  check_that_training_reads_validation(workdir)


def check_that_training_reads_validation(workdir):
  """What the loop scored is of validation, what is reported of the test."""
  (base,) = (workdir / "stages").glob("base-*")
  outcome = json.loads((base / "done.json").read_text())
  rows = map(json.loads, (base / "metrics.jsonl").read_text().splitlines())
  row = [row for row in rows if row["kind"] == "evaluation"][-1]
  assert row.items() >= outcome["validation"].items()
  described = json.loads((base / "config.json").read_text())
  model = ModelConfig(**described["model"])
  params = load_params(base / "checkpoints", shapes(model))
  (data,) = (workdir / "stages").glob("data-*")
  held = json.loads((data / "config.json").read_text())
  for part, find in (
    ("scores", language_task.problems),
    ("validation", language_task.validation),
  ):
    names, problems = find(held["data"], held["seeds"], data)
    evaluate = language_task.make_evaluate(Decoder(model).apply, names, rows_at_once=24)
    expected = evaluate(params, problems)
    for name, value in outcome[part].items():
      assert float(expected[name]) == pytest.approx(value, rel=1e-5)
  assert outcome["scores"]["retain"] != outcome["validation"]["retain"]


def test_documents_in_both_languages_are_refused(config, tmp_path):
  retain, forget = (tmp_path / f"{name}.jsonl" for name in ("retain", "forget"))
  shared = "\n".join(retain.read_text().splitlines()[:9])
  forget.write_text(forget.read_text() + shared + "\n")
  message = r"retain_train and forget_train share \d documents, .*retain.jsonl, line \d"
  with pytest.raises(ConfigError, match=message):
    runs.run_all(config, tmp_path / "run")


def test_other_text_is_another_run(config, tmp_path):
  first = stages.identities(translation.plan(parse(config), 0))
  write(tmp_path / "forget.jsonl", "가나다라", seed=9)
  second = stages.identities(translation.plan(parse(config), 0))
  assert not set(first.values()) & set(second.values())


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("data.retain.paths", (), "data.retain.paths: expected paths of documents"),
    ("data.forget.paths", ("no.txt",), "data.forget: .* none matches 'no.txt'"),
    ("data.forget.text_field", "body", r"forget.jsonl.*line 1"),
    ("data.forget.validation_fraction", 0.0, "a share .* above 0, to be scored on"),
    ("data.retain.test_fraction", 0.0, "a share .* above 0, to be scored on, got 0"),
    ("data.retain.test_fraction", 0.8, "less than 1 together with validation_frac"),
    ("data.num_evaluation_rows", 0, "at least 1, got 0"),
  ],
)
def test_wrong_data_is_named(config, field, value, message):
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    runs.declare(config)


def test_an_attacker_may_have_documents_of_its_own(config, tmp_path):
  write(tmp_path / "attack.jsonl", "가나다라", seed=11)
  paths = (str(tmp_path / "attack.jsonl"),)
  config.data.attack = builders.documents(paths=paths, validation_fraction=0.0)
  data, seeds = config.data.to_dict(), {"data": 0, "eval": 0}
  outcome = language_task.prepare(data, seeds, tmp_path / "data", "test")
  rows, apart = outcome["rows"], outcome["apart"]
  lines = (tmp_path / "attack.jsonl").read_text().splitlines()
  assert apart["items"]["attacked"] == len({json.loads(line)["text"] for line in lines})
  assert apart["splits"] == ["attack"] and apart["shared"] == 0
  assert list(rows) == ["retain", "forget", "attack"]
  source = language_task.source(data, tmp_path / "data", "attack")
  assert len(source) == rows["attack"] > 0
  assert language_task.forget_splits(data) == ("forget", "attack")
  shared = (tmp_path / "forget.jsonl").read_text()
  (tmp_path / "attack.jsonl").write_text(shared)
  message = r"forget_train and attack_train share \d+ documents"
  with pytest.raises(ConfigError, match=message):
    language_task.prepare(data, seeds, tmp_path / "others", "test")


def test_shapes_of_the_problems_are_known_before_rows_are_prepared(config, tmp_path):
  data, seeds = config.data.to_dict(), {"data": 0, "eval": 0}
  language_task.prepare(data, seeds, tmp_path / "data", "test")
  shapes = language_task.problems(data, seeds, tmp_path / "data")
  known = language_task.problem_shapes(data, seeds, tmp_path / "none")
  described = [
    (names, {name: (x.shape, x.dtype) for name, x in arrays.items()})
    for names, arrays in (shapes, known)
  ]
  assert described[0] == described[1]


def test_stop_rules_and_tables_and_attackers_read_different_rows(config, tmp_path):
  data, seeds = config.data.to_dict(), {"data": 0, "eval": 0}
  language_task.prepare(data, seeds, tmp_path / "data", "test")

  def texts(find):
    arrays = find(data, seeds, tmp_path / "data")[1]
    rows = np.asarray(arrays["inputs"]).tolist()
    of_group = np.asarray(arrays["group"]).tolist()
    return [
      {tuple(r) for r, g in zip(rows, of_group, strict=True) if g == group}
      for group in range(3)
    ]

  test, validation = texts(language_task.problems), texts(language_task.validation)
  assert test[2] == validation[2]  # The attacker's.
  trained = language_task.source(data, tmp_path / "data", "forget")
  assert test[2] == {tuple(trained[i]["tokens"][:-1].tolist()) for i in range(8)}
  for group in (0, 1):
    assert len(test[group]) == len(validation[group]) == 8
    assert not test[group] & validation[group]
  assert not test[1] & test[2]


def test_too_few_held_out_rows_end_before_training(config, tmp_path):
  config.data.num_evaluation_rows = 500
  with pytest.raises(ConfigError, match="expected 500 held-out rows of retain, got"):
    runs.run_all(config, tmp_path / "run")
