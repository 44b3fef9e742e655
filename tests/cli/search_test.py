"""The command search: what it lacks and what it will cost are told before compute."""

import sys

import pytest

from tests import minimal
from tests.running.search_test import config
from undo_jax.cli import process
from undo_jax.estimation import search_workload
from undo_jax.hardware.flops import forward_flops
from undo_jax.running.search_space import spaces


def test_without_optuna_one_line_says_what_to_install(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "optuna", None)
  for name in ("cli.search", "running.search", "running.search_study"):
    monkeypatch.delitem(sys.modules, f"undo_jax.{name}", raising=False)
    room, _, module = name.partition(".")
    monkeypatch.delattr(sys.modules[f"undo_jax.{room}"], module, raising=False)
  monkeypatch.setattr(sys, "argv", ["undo-jax"])
  with pytest.raises(SystemExit) as stopped:
    process.run_command("search")
  assert stopped.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ") and "pip install 'undo-jax[search]'" in line


def test_a_dry_run_prints_trials_times_cost_and_writes_nothing(tmp_path, capsys):
  with minimal.one_device():
    made = config(search={"trials": 3})
    search_workload.print_plan(tmp_path / "none", made)
    (space,) = spaces(made)
    trial, shared = search_workload.costs(space)
  assert not list(tmp_path.iterdir())
  # By hand: 3 passes of 16 rows in 3 updates of training, of 2 x 8 rows in 2 updates
  # of the attack; scored once after training, twice by the attack's two members after
  # 2 updates, and once before.
  model = space.declare({"alpha": 0.5}).config.model
  passes = forward_flops(model, 16)
  scored = trial - 3 * passes * (16 * 3 + 2 * 8 * 2)
  base = 3 * passes * 16 * 3
  (name,) = shared
  assert name.startswith("base-")
  assert scored == 4 * (shared[name] - base)
  head, *rows = capsys.readouterr().out.splitlines()
  row = next(row.split() for row in rows if row.startswith("student"))
  assert row[1:4] == ["3", f"{trial:.2e}", f"{3 * trial:.2e}"]
  assert "FLOPs a trial" in head
