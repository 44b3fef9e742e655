"""Records from a module outside of the package, carried to results and page."""

import json

import pytest

from tests import minimal
from undo_jax import config as builders
from undo_jax.frontier import reading
from undo_jax.frontier import results as results_lib
from undo_jax.running import runs
from undo_jax.utils.types import ConfigError


def config_of():
  config = minimal.only(minimal.config(), ("base",))
  config.task = "tests.outside:TASK"
  models = config.models
  models.ascent = builders.unlearn(
    "tests.outside:METHOD",
    options={"weight": 0.5},
    optimizer=builders.optimizer(num_steps=5, learning_rate=1e-3),
    batch_size=16,
  )
  models.ascent.optimizer.name = "tests.outside:OPTIMIZER"
  models.ascent.stop.update(rule="tests.outside:RULE", evaluate_every=2)
  relearn = config.attacks.relearn
  relearn.adversary = "tests.outside:ATTACK"
  config.attacks.slower = builders.like(relearn, learning_rates=(1e-4, 1e-5))
  # As in a frontier: seeds of the models, which share what is pretrained, and of each
  # attack.
  config.seeds = (0, 1)
  config.streams.update(init=0, data=0, eval=0)
  relearn.seeds = (0, 1)
  config.references = builders.references(base="base", unlearned="ascent")
  config.writers = ("jsonl", "tests.outside:WRITER")
  config.report.update(budgets=(2, 4), figures=("tests.outside:FIGURE",))
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("outside")
  with minimal.one_device():
    results = runs.run_all(config_of(), workdir)
  assert results is not None
  return workdir, results


def test_results_and_page_hold_what_is_from_outside(finished):
  workdir, results = finished
  assert list(results.models) == ["base", "ascent"]
  assert results.models["ascent"].label == "ascent"
  assert results.metrics["forget"].name == "forget of my own"
  ascent, again = results.models["ascent"].runs
  assert ascent.stopped.updates == 1  # The rule ends it at its first evaluation.
  assert (ascent.directory, ascent.seed, again.seed) == (again.directory, 0, 1)
  assert set(ascent.attacks) == {"relearn", "slower"}
  for one in (ascent, again):
    for under in one.attacks.values():
      assert len(under.forget) == len(set(under.directories)) == 2
  assert ascent.attacks["relearn"].directories != again.attacks["relearn"].directories
  assert results.attacks["slower"].trains == "the embedding"
  assert ascent.labels.tokens.keys() == {"forget", "retain"}
  page = (workdir / "report.html").read_text()
  for text in ("embedding alone", "My own figure", "ascent", "forget of my own"):
    assert text in page
  assert len(list((workdir / "figures").glob("*.svg"))) == 1
  (stage,) = (workdir / "stages").glob("base-*")  # One for both seeds.
  rows = [json.loads(line) for line in (stage / "lines.txt").read_text().splitlines()]
  assert [row[:2] for row in rows[:2]] == [[1, "train"], [2, "train"]]


def test_a_workdir_is_read_and_read_again(finished):
  workdir, results = finished
  content = json.loads((workdir / "results.json").read_text())
  assert results_lib.from_json(content, path="results.json") == results
  again = reading.read(workdir, runs.declare(config_of()).config)
  assert again == results


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("task", "tests.outside:METHOD", "config.task: .*a Task.* of type Method"),
    ("models.ascent.objective", "tests.outside:NONE", "models.ascent: .*NONE"),
    ("models.ascent.optimizer.name", "no_such.module:X", "no_such"),
    ("attacks.slower.adversary", "tests.outside", "tests.outside"),
    ("report.figures", ("tests.outside:RULE",), "a Figure.* of type StopRule"),
    ("writers", ("tests.outside:RULE",), "a WriterKind.* of type StopRule"),
  ],
)
def test_what_is_no_record_is_one_line(field, value, message):
  config = config_of()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message) as error:
    runs.declare(config)
  assert "\n" not in str(error.value)
