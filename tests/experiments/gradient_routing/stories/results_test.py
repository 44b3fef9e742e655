"""Results made of parts by hand: means over seeds, and the table."""

import dataclasses

import pytest

from configs.gradient_routing import stories as config_file
from experiments.gradient_routing.stories import results
from experiments.gradient_routing.stories.config import Config
from experiments.shared import typed


def make_measured(method, forget, fraction):
  return {
    "method": method,
    "labelled": fraction,
    "before": {"forget": 0.5, "retain": 0.5},
    "after": {"forget": forget, "retain": 0.75},
    "retrained": {"4": {"steps": [2], "forget": [0.625], "retain": [0.75]}},
    "unlearning": forget - 0.5,
    "robust_unlearning": 0.125,
  }


@pytest.fixture
def assembled():
  config = typed.read(Config, config_file.get_config("tiny"))
  config = dataclasses.replace(config, seeds=(3, 1))
  parts = {
    f"seed_{seed}": {
      "base": make_measured("filtering", 0.5, 0.0),
      "era_0.5": make_measured("era", 1.0 + seed, 0.5),
    }
    for seed in config.seeds
  }
  return results.assemble(config, parts)


def test_a_models_mean_is_over_its_seeds(assembled):
  model = assembled["models"]["era_0.5"]
  assert (model["method"], model["labelled"]) == ("era", 0.5)
  assert list(model["seeds"]) == ["3", "1"]
  assert model["mean"] == {
    "forget_before": 0.5,
    "forget_after": 3.0,
    "retain_after": 0.75,
    "unlearning": 2.5,
    "robust_unlearning": 0.125,
  }


def test_the_table_has_the_range_over_seeds(assembled):
  row = results.table(assembled).splitlines()[-1]
  cells = [cell.strip() for cell in row.strip("|").split("|")]
  assert cells[0] == "era_0.5" and cells[2] == "3.00 [2.00, 4.00]"
