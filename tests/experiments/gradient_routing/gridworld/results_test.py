"""Results made of parts by hand: what counts, what is spent, and the table."""

import dataclasses

import pytest

from configs.gradient_routing import gridworld as config_file
from experiments.gradient_routing.gridworld import results
from experiments.gradient_routing.gridworld.config import Config
from experiments.shared import typed

TINY = typed.read(Config, config_file.get_config("tiny"))


def make_part(updates=6):
  curve = {"return": [[0.0, 0.0], [0.5, 0.7]], "length": [[9.0, 9.0], [3.0, 5.0]]}
  speed = {"share_of_peak": 0.5}
  return {"updates": [0, updates], "curve": curve, "speed": speed}


@pytest.fixture
def assembled(monkeypatch):
  monkeypatch.setattr(results, "references", lambda _: {"blind": {"0.5": 0.25}})
  methods = ("naive", "oracle_filtering")
  config = dataclasses.replace(TINY, run=methods, oversight=(0.5,))
  parts = {
    results.part_name(method, 0.5, seed): make_part(config.num_updates(method, 0.5))
    for method in methods
    for seed in config.seeds
  }
  return results.assemble(config, parts)


def test_filtering_costs_the_steps_of_what_is_filtered_away(assembled):
  methods = assembled["methods"]
  assert list(methods) == ["naive", "oracle_filtering", results.EARLY_STOPPED]
  at_half = methods["oracle_filtering"]["0.5"]
  assert at_half["environment_steps"] == [0, 3 * 16 * 8 / 0.5]
  assert at_half["mean"] == pytest.approx(0.6)
  assert at_half["scores"]["1"]["length"] == pytest.approx(4.0)
  assert methods["naive"]["0.5"]["environment_steps"] == [0, 6 * 16 * 8]


def test_early_stopping_chooses_on_one_half_and_measures_on_the_other():
  config = dataclasses.replace(TINY, seeds=(7,), oversight=(0.5,))
  curve = [[0.0, 0.5], [0.9, 0.3], [0.4, 0.8]]
  part = {"updates": [0, 3, 6], "curve": {"return": curve}}
  stopped = results.early_stopped(config, {"naive-oversight_0.5-seed_7": part}, 0.5)
  assert stopped["return"] == {"7": 0.3} and stopped["update"] == {"7": 3}


def test_the_table_has_a_row_for_each_method_and_reference(assembled):
  lines = [line.split("  ") for line in results.table(assembled).splitlines()]
  cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
  assert cells == [
    ["return at oversight", "0.5"],
    ["naive", "0.600 +- 0.000"],
    ["oracle_filtering", "0.600 +- 0.000"],
    [results.EARLY_STOPPED, "0.700 +- 0.000"],
    ["(scripted: blind)", "0.250"],
  ]
