"""Seeds of one config as one result, from finished runs in their directories."""

import json

import pytest

from tests.frontier import made_up
from undo_jax.cli import seeds
from undo_jax.frontier import results
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


def write(directory, seed):
  found = made_up.synthetic(made_up.SMALL, 20, seeds=(seed,))
  files.write_json(directory / "results.json", results.to_json(found))
  return str(directory)


def test_results_of_two_runs_become_one_with_its_page(tmp_path, capsys):
  directories = [write(tmp_path / f"run{seed}", seed) for seed in (1, 0)]
  seeds.combine(directories, tmp_path / "both")
  value = json.loads((tmp_path / "both" / "results.json").read_text())
  merged = results.from_json(value, path="results.json")
  assert merged.seeds == (0, 1) and tuple(merged.models) == made_up.SMALL
  page = (tmp_path / "both" / "report.html").read_text()
  for seed in (0, 1):  # From the page to the workdirs.
    assert f'href="../run{seed}/stages/made-up/config.json"' in page
  assert "undo_alpha_0.3" in capsys.readouterr().out


def test_runs_that_are_not_finished_or_too_few_are_told(tmp_path):
  directory = write(tmp_path / "run", 0)
  with pytest.raises(ConfigError, match="finished run, but no .*none/results.json"):
    seeds.combine([directory, str(tmp_path / "none")], tmp_path / "both")
  with pytest.raises(ConfigError, match="two runs or more, got 1"):
    seeds.combine([directory], tmp_path / "both")
  assert not (tmp_path / "both").exists()
