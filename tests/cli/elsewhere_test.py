"""The flags that give stages to workers: what cannot be met is one line, at once."""

import sys
from typing import Any

import jax
import pytest

from tests import children, sharing
from undo_jax.cli import elsewhere
from undo_jax.running import drivers
from undo_jax.utils import extras

WRONG = {
  "--engine=dask": "error: --engine: expected as engine one of ray, slurm or MOD",
  "--num_workers=9999": "error: --num_workers: expected at most",
  "--num_workers=-1": "error: --num_workers: expected at least 1, got -1",
  "--num_restarts=1": "error: --num_restarts: expected none with this engine: one pro",
  "--ray_address=a:1": "error: --ray_address: expected none with this engine",
  "--engine=slurm --num_workers=0": "error: --num_workers: expected at least 1, got 0",
  "--engine=slurm --accelerator=v6e:4x4": "error: --accelerator: expected none with",
  "--engine=slurm --slurm=nodes": "error: --slurm: expected NAME=VALUE,..., got",
  "--engine=slurm --slurm=cluster=local --stages=base": "error: --stages: expected",
  "--stages=base,nothing": "error: --stages: 'nothing' is none of data, base, max_ent",
  "--stages=max_ent": "which is not finished; run that first",
}


@pytest.mark.processes
def test_wrong_flags_are_one_line_and_nothing_runs(tmp_path):
  for arguments, message in WRONG.items():
    workdir = tmp_path / "run"
    status, _, said = children.run(*sharing.command(workdir, *arguments.split()))
    assert status == 2, said
    (line,) = said.splitlines()
    assert line.startswith("error: ") and message in line, arguments
    assert not (workdir / "stages").exists()


def test_an_engine_that_is_not_installed_is_told_with_its_extra(monkeypatch, tmp_path):
  from undo_jax.engines.engine import Settings
  from undo_jax.engines.registry import REGISTRY

  for name, library in (("ray", "ray"), ("slurm", "submitit")):
    monkeypatch.setitem(sys.modules, library, None)  # As if it were not there.
    with pytest.raises(extras.ConfigError, match=rf"'undo-jax\[{name}\]'"):
      REGISTRY.get(name).check(Settings(workdir=tmp_path, num_workers=1))


@pytest.mark.parametrize(
  "processors, backend, expected",
  [(6, "cpu", 4), (2, "cpu", 2), (1, "cpu", None), (6, "gpu", None)],
)
def test_nought_workers_are_as_many_as_the_processors(
  monkeypatch, processors, backend, expected
):
  monkeypatch.setattr(drivers, "processors", lambda: [*range(processors)])
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  monkeypatch.setattr(elsewhere, "_check_alone", lambda engine: None)  # Reads flags.
  runs: Any = elsewhere._local({"num_workers": 0})
  assert (runs and runs.keywords["num_workers"]) == expected


@pytest.mark.processes
def test_a_stage_by_its_name_is_run_alone_from_what_a_run_has_left(alone, tmp_path):
  lost = ("max_ent", "relearn_base", "relearn_max_ent")
  workdir = sharing.copied(alone, tmp_path / "run", without=lost)
  name = sharing.stage(alone, "max_ent").name
  status, _, said = children.run(
    "undo",
    f"--config={workdir / 'config.json'}",
    f"--workdir={workdir}",
    f"--stages={name}",
  )
  assert status == 0, said
  here, there = (sharing.stage(x, "max_ent") for x in (workdir, alone))
  assert (here / "done.json").read_bytes() == (there / "done.json").read_bytes()
  assert not list(workdir.glob("stages/relearn_*"))
  assert not (workdir / "results.json").exists()
