"""Results made of parts by hand, and the table."""

import dataclasses

import numpy as np
import pytest

from configs.gradient_routing import tug_of_war as config_file
from experiments.gradient_routing.tug_of_war import results, two_parameters
from experiments.gradient_routing.tug_of_war.config import Config
from experiments.shared import typed


@pytest.fixture
def assembled():
  config = typed.read(Config, config_file.get_config("tiny"))
  config = dataclasses.replace(config, seeds=(3, 1))

  def errors(seed):
    return {
      "before": {"forget": 0.5 + seed, "retain": 0.25},
      "after": {"forget": 2.0, "retain": 1000.0 * seed},
    }

  parts = {
    f"seed_{seed}": {way: errors(seed) for way in config.two_tasks.ways}
    for seed in config.seeds
  }
  return results.assemble(config, parts)


def test_the_two_parameters_are_recorded_every_ten_steps(assembled):
  path = assembled["two_parameters"]["0.2"]
  theta = np.asarray(two_parameters.train(0.2, 40, 0.01))
  assert path["steps"] == [10, 20, 30, 40]
  np.testing.assert_array_equal(np.float32(path["old"]), theta[9::10, 0])
  np.testing.assert_array_equal(np.float32(path["new"]), theta[9::10, 1])


def test_the_table_has_every_seed_in_a_cell(assembled):
  assert list(assembled["two_tasks"]["sgtm"]) == ["3", "1"]
  row = results.table(assembled).splitlines()[-1]
  cells = [cell.strip() for cell in row.strip("|").split("|")]
  assert cells[1:] == ["3.5 1.5", "0.25 0.25", "2 2", "3e+03 1e+03"]
