"""The whole study in :tiny: results, figures, resume; checks of its config."""

import json

import numpy as np
from PIL import Image
import pytest

from configs import routing_gridworld
from experiments import routing_gridworld as experiment
from undo_jax.studies.gridworld import study
from undo_jax.utils.types import ConfigError


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  config = routing_gridworld.get_config("tiny")
  directory = tmp_path_factory.mktemp("gridworld")
  experiment.run(config, directory)
  return directory


def test_results_hold_every_method_level_and_seed(workdir):
  results = json.loads((workdir / "results.json").read_text())
  methods = results["methods"]
  assert list(methods) == ["routing"]
  for by_level in methods.values():
    assert list(by_level) == ["0.1", "0.5"]
    for found in by_level.values():
      values = list(found["return"].values())
      assert list(found["return"]) == ["0", "1"]
      np.testing.assert_allclose(found["mean"], np.mean(values))
      np.testing.assert_allclose(found["std"], abs(values[0] - values[1]) / 2**0.5)
  routing = methods["routing"]["0.1"]
  assert routing["updates"] == [0, 3, 6]
  assert routing["environment_steps"] == [0, 3 * 16 * 8, 6 * 16 * 8]
  assert 0 < routing["share_of_peak"] < 1
  for seed, curve in routing["curve"].items():
    assert curve[-1] == pytest.approx(routing["return"][seed])
  assert results["references"]["optimal"]["0.1"] > results["references"]["blind"]["0.1"]
  for name in ("oversight.png", "training.png"):
    assert Image.open(workdir / "figures" / name).size[0] > 800


def test_the_gates_relu_is_the_one_thing_that_is_changed():
  methods = routing_gridworld.get_config().methods
  plain, changed = (
    study.make_method(methods[name]) for name in ("routing", "routing_gate_relu")
  )
  assert changed == plain._replace(gate_relu=True) != plain


def test_early_stopping_chooses_on_one_half_and_measures_on_the_other():
  config = routing_gridworld.get_config("tiny")
  config.seeds, config.oversight = (7,), (0.5,)
  curve = [[0.0, 0.5], [0.9, 0.3], [0.4, 0.8]]
  part = {"updates": [0, 3, 6], "curve": {"return": curve}}
  found = study.early_stopped(config, {"naive-oversight_0.5-seed_7": part}, 0.5)
  assert found["return"] == {"7": 0.3} and found["update"] == {"7": 3}


def test_oracle_filtering_has_as_many_updates_as_are_overseen(monkeypatch):
  """And each costs the steps of those that are filtered away."""
  config, asked = routing_gridworld.get_config("tiny"), []

  def train(config, method, programs, pairs, updates):
    del config, method, programs
    asked.append((pairs, updates))
    curve = {"return": [[0.0, 0.0], [0.5, 0.7]], "length": [[9.0, 9.0], [3.0, 5.0]]}
    part = {"updates": [0, updates], "curve": curve, "speed": {"share_of_peak": 0.5}}
    return [part] * len(pairs)

  monkeypatch.setattr(study, "train", train)
  monkeypatch.setattr(study, "make_programs", lambda *_: None)
  monkeypatch.setattr(study, "references", lambda _: {})
  config.run = ("naive", "oracle_filtering")
  parts = dict(study.compute(config, study.part_names(config)))
  first, second = [(0.1, 0), (0.1, 1)], [(0.5, 0), (0.5, 1)]
  assert asked == [(first + second, 6), (first, 1), (second, 3)]
  methods = study.assemble(config, parts)["methods"]
  assert list(methods) == ["naive", "oracle_filtering", study.EARLY_STOPPED]
  found = methods["oracle_filtering"]["0.5"]
  assert found["environment_steps"] == [0, 3 * 16 * 8 / 0.5]
  assert found["mean"] == pytest.approx(0.6)
  assert found["scores"]["1"]["length"] == pytest.approx(4.0)


def test_populations_are_no_larger_than_asked_for_and_leave_out_what_is_done(
  monkeypatch,
):
  config, asked = routing_gridworld.get_config("tiny"), []
  config.replicas_at_once, config.run = 2, ("routing",)

  def train(config, method, programs, pairs, updates):
    del config, method, programs, updates
    asked.append(pairs)
    return [{}] * len(pairs)

  monkeypatch.setattr(study, "train", train)
  monkeypatch.setattr(study, "make_programs", lambda *_: None)
  names = study.part_names(config)
  done = study.part_name("routing", 0.1, 1)
  missing = [name for name in names if name != done]
  assert [name for name, _ in study.compute(config, missing)] == missing
  assert asked == [[(0.1, 0), (0.5, 0)], [(0.5, 1)]]


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("oversight", (), "config.oversight: expected at least one probability"),
    ("oversight", (0.1, 1.5), r"config.oversight: expected a number in \[0, 1\]"),
    ("model.width", 0, "config.model.width: expected an integer of at least 1"),
    ("model.value_widths", (0.5,), r"config.model.value_widths: .* got \(0.5,\)"),
    ("training.learning_rate", -1.0, "config.training.learning_rate"),
    ("training.discount", 1.5, "config.training.discount"),
    ("run", ("routing", "ppo"), "config.run: expected some of config.methods"),
    ("methods.naive.reward", "seen", "one of reached, overseen, true"),
    ("methods.naive.routed", True, "mixture where routed or gate is set"),
    ("methods.routing.gate", 2.0, "config.methods.routing.gate"),
  ],
)
def test_a_wrong_field_is_named(field, value, message):
  config = routing_gridworld.get_config("tiny")
  config.run = ("routing", "naive")
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ConfigError, match=message):
    study.check(config)


def test_the_papers_size_is_valid():
  study.check(routing_gridworld.get_config("paper"))
