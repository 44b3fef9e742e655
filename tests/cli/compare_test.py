"""Finished runs on one page, from their directories and from leaderboards."""

import json

import pytest

from tests.frontier import made_up
from undo_jax.cli import compare
from undo_jax.frontier import results
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


def write(directory, seed):
  run = made_up.synthetic(made_up.SMALL, 20, seeds=(seed,))
  files.write_json(directory / "results.json", results.to_json(run))
  return str(directory)


def test_results_of_two_runs_become_one_with_its_page(tmp_path, capsys):
  directories = [write(tmp_path / f"run{seed}", seed) for seed in (1, 0)]
  compare.compare(directories, tmp_path / "both")
  value = json.loads((tmp_path / "both" / "results.json").read_text())
  merged = results.from_json(value, path="results.json")
  assert merged.seeds == (0, 1) and tuple(merged.models) == made_up.SMALL
  page = (tmp_path / "both" / "report.html").read_text()
  for seed in (0, 1):  # From the page to the workdirs.
    assert f'href="../run{seed}/stages/made-up/config.json"' in page
  assert "undo_alpha_0.3" in capsys.readouterr().out


def test_a_leaderboard_is_exported_and_read_again(tmp_path, capsys):
  run, board = write(tmp_path / "run", 0), tmp_path / "board.jsonl"
  compare.compare([run], tmp_path / "one", str(board))
  assert len(board.read_text().splitlines()) == len(made_up.SMALL)
  other = write(tmp_path / "other", 1)
  compare.compare([str(board), other], tmp_path / "both")
  value = json.loads((tmp_path / "both" / "results.json").read_text())
  merged = results.from_json(value, path="results.json")
  assert merged.seeds == (0, 1)
  workdirs = {run.workdir for m in merged.models.values() for run in m.runs}
  assert workdirs == {"../run", "../other"}
  capsys.readouterr()


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("", "a line for each model, got an empty file"),
    ("{", "line 1: expected JSON"),
    ("3", "line 1: expected an object of results, got 3"),
    ('{"schema": 1}', "line 1: expected results of schema 3, got 1"),
  ],
)
def test_a_leaderboard_that_is_none_is_named(tmp_path, line, message):
  board = tmp_path / "board.jsonl"
  board.write_text(line)
  with pytest.raises(ConfigError, match=message):
    compare.compare([str(board)], tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_is_told(tmp_path):
  directory = write(tmp_path / "run", 0)
  with pytest.raises(ConfigError, match="finished run, but no .*none/results.json"):
    compare.compare([directory, str(tmp_path / "none")], tmp_path / "both")
  with pytest.raises(ConfigError, match="directories of runs .*, got none"):
    compare.compare([], tmp_path / "both")
  with pytest.raises(ConfigError, match="a leaderboard, but no file"):
    compare.compare([str(tmp_path / "no.jsonl")], tmp_path / "both")
  with pytest.raises(ConfigError, match="--leaderboard: expected a name in .jsonl"):
    compare.compare([directory], tmp_path / "both", "board.json")
  assert not (tmp_path / "both").exists()
