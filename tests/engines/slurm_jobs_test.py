"""Stages as submitit's jobs, on this machine: told to stop, killed, gone on with."""

import os
import signal

import pytest

from tests import children, sharing
from undo_jax.engines import slurm_jobs
from undo_jax.engines.engine import Ended, Settings
from undo_jax.utils.errors import ConfigError

pytest.importorskip("submitit")
FLAGS = ("--engine=slurm", "--slurm=cluster=local,timeout_min=9", "--num_workers=1")


@pytest.mark.processes
def test_a_killed_job_and_a_stopped_driver_lose_nothing(alone, tmp_path):
  name = "relearn_base"
  workdir = sharing.copied(alone, tmp_path / "run", without=[name])
  driver = children.start(*sharing.command(workdir, *FLAGS))
  killed = sharing.wait_for_holder(workdir, alone, name, driver)
  os.kill(killed, signal.SIGKILL)
  stopped = sharing.wait_for_holder(workdir, alone, name, driver, other_than=[killed])
  driver.terminate()
  assert driver.wait() == 75
  said = driver.printed()[1]
  assert "relearn_base: its worker was ended by signal 9" in said
  assert "all workers have saved and ended" in said
  with pytest.raises(ProcessLookupError):  # It has waited for it.
    os.kill(stopped, 0)
  again = children.start(*sharing.command(workdir, *FLAGS))
  assert again.wait() == 0, again.printed()[1]
  sharing.assert_equal(workdir, alone)


def test_the_process_that_says_most_speaks_for_a_job():
  lines = [(0, "fine"), (-9, "gone"), (75, "saved"), (1, "error: the loss is nan")]
  results = [{"status": status, "line": line} for status, line in lines]
  assert slurm_jobs.worst(results) == Ended(1, "error: the loss is nan")
  assert slurm_jobs.worst(results[:3]) == Ended(-9, "gone")
  assert slurm_jobs.worst([results[2], results[0]]) == Ended(75, "saved")


@pytest.mark.parametrize(
  "workdir, slurm, message",
  [
    ("here", {}, "sbatch|srun"),
    ("here", {"cluster": "local", "nods": "2"}, "nods"),
    ("here", {"cluster": "local", "nodes": "two"}, "nodes"),
    ("gs://bucket/run", {"cluster": "local"}, "a disk that the cluster shares"),
  ],
)
def test_wrong_settings_are_one_line(tmp_path, monkeypatch, workdir, slurm, message):
  monkeypatch.setenv("PATH", str(tmp_path))  # There may be a Slurm here.
  from etils import epath

  path = epath.Path(workdir) if "://" in workdir else tmp_path / workdir
  with pytest.raises(ConfigError, match=message):
    slurm_jobs.check(Settings(workdir=path, num_workers=1, slurm=slurm))
  assert not list(tmp_path.iterdir())
