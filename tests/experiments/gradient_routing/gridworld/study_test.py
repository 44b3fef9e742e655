"""The whole study in :tiny: results, figures, and what is trained together."""

import dataclasses
import json

import numpy as np
from PIL import Image
import pytest

from configs.gradient_routing import gridworld as config_file
from experiments.gradient_routing.gridworld import study
from experiments.gradient_routing.gridworld.config import Config
from experiments.gradient_routing.gridworld.results import part_name
from experiments.shared import running, typed

TINY = typed.read(Config, config_file.get_config("tiny"))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  config = config_file.get_config("tiny")
  directory = tmp_path_factory.mktemp("gridworld")
  running.run(study.make, config, directory)
  return directory


def test_results_hold_every_method_level_and_seed(workdir):
  results = json.loads((workdir / "results.json").read_text())
  methods = results["methods"]
  assert list(methods) == ["routing"]
  for by_level in methods.values():
    assert list(by_level) == ["0.1", "0.5"]
    for at_level in by_level.values():
      values = list(at_level["return"].values())
      assert list(at_level["return"]) == ["0", "1"]
      np.testing.assert_allclose(at_level["mean"], np.mean(values))
      np.testing.assert_allclose(at_level["std"], abs(values[0] - values[1]) / 2**0.5)
  routing = methods["routing"]["0.1"]
  assert routing["updates"] == [0, 3, 6]
  assert routing["environment_steps"] == [0, 3 * 16 * 8, 6 * 16 * 8]
  assert 0 < routing["share_of_peak"] < 1
  for seed, curve in routing["curve"].items():
    assert curve[-1] == pytest.approx(routing["return"][seed])
  assert results["references"]["optimal"]["0.1"] > results["references"]["blind"]["0.1"]
  for name in ("oversight.png", "training.png"):
    assert Image.open(workdir / "figures" / name).size[0] > 800


@pytest.fixture
def trained(monkeypatch):
  """Record what is trained together; return (pairs, updates) of each population."""
  populations = []

  def train(config, method, programs, pairs, updates):
    del config, method, programs
    populations.append((pairs, updates))
    return [{}] * len(pairs)

  monkeypatch.setattr(study, "train", train)
  monkeypatch.setattr(study, "make_programs", lambda *_: None)
  return populations


def test_oracle_filtering_has_as_many_updates_as_are_overseen(trained):
  config = dataclasses.replace(TINY, run=("naive", "oracle_filtering"))
  names = study.part_names(config)
  assert [name for name, _ in study.compute(config, names)] == names
  first, second = [(0.1, 0), (0.1, 1)], [(0.5, 0), (0.5, 1)]
  assert trained == [(first + second, 6), (first, 1), (second, 3)]


def test_populations_are_no_larger_than_configured_and_leave_out_what_is_done(trained):
  config = dataclasses.replace(TINY, replicas_at_once=2, run=("routing",))
  done = part_name("routing", 0.1, 1)
  missing = [name for name in study.part_names(config) if name != done]
  assert [name for name, _ in study.compute(config, missing)] == missing
  assert trained == [([(0.1, 0), (0.5, 0)], 6), ([(0.5, 1)], 6)]
