"""Commands in fresh processes: what they leave behind, signals while they start.

Many of them one after the other, which takes long: make kills.
"""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import sharing
from tests.running.kills_test import LARGEST_GROWTH, RUNS, slopes

START = [sys.executable, "-c", "from undo_jax import cli; cli.main()"]
ROOT = pathlib.Path(__file__).parents[2]
KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")
KEPT += ("JAX_DISABLE_MOST_OPTIMIZATIONS",)
# The base and an attack on it.
CHANGES = {"model.num_layers": 1, "models.max_ent.run": False}
CHANGES |= {"references.unlearned": None, "references.filtered": None}


def start(command, root):
  """Start a command whose home and temporary directories are below a directory."""
  places = {"HOME": root / "home", "TMPDIR": root / "temporary"}
  for place in places.values():
    place.mkdir(parents=True, exist_ok=True)
  kept = {key: value for key, value in os.environ.items() if key in KEPT}
  return subprocess.Popen(
    [*START, *command],
    cwd=ROOT,
    env=kept | {key: str(place) for key, place in places.items()},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def files(directory):
  return sorted(str(x.relative_to(directory)) for x in directory.rglob("*"))


def test_a_run_leaves_nothing_outside_its_workdir_but_compiled_programs(tmp_path):
  workdir = tmp_path / "run"
  process = start(sharing.command(workdir, **CHANGES), tmp_path)
  _, said = process.communicate()
  assert process.returncode == 0, said
  assert files(tmp_path / "temporary") == []
  assert {path.split("/")[0] for path in files(tmp_path / "home")} <= {".cache"}
  assert os.listdir(tmp_path / "home" / ".cache") == ["undo_jax"]
  left = [x for x in workdir.rglob("*") if x.name.endswith(("tmp", "incomplete"))]
  assert not left


def handles_sigterm(number):
  """Whether a process has a handler for SIGTERM."""
  text = pathlib.Path(f"/proc/{number}/status").read_text()
  (mask,) = (x.split()[1] for x in text.splitlines() if x.startswith("SigCgt"))
  return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize("delay", [0.0, 0.7])
def test_a_command_that_is_told_to_stop_while_it_imports_ends_with_75(tmp_path, delay):
  workdir = tmp_path / "run"
  process = start(sharing.command(workdir, **CHANGES), tmp_path)
  while not handles_sigterm(process.pid):
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)
  time.sleep(delay)
  process.terminate()
  _, said = process.communicate()
  assert process.returncode == 75, said
  assert "Traceback" not in said and not workdir.exists()


@pytest.mark.skipif(not RUNS, reason="takes many runs: make kills")
def test_fresh_processes_grow_neither_their_memory_nor_what_they_leave(tmp_path):
  samples = []
  for number in range(RUNS):
    workdir = tmp_path / str(number)
    process = start(sharing.command(workdir, **CHANGES), tmp_path)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, said
    assert files(tmp_path / "temporary") == []
    samples.append((_peak(usage), len(files(tmp_path / "home"))))
  # Which programs the first ones keep depends on how long they took to compile.
  later = samples[RUNS // 2 :]
  memory, _ = np.median(slopes(later), axis=0)
  assert memory < LARGEST_GROWTH and later[-1][1] == later[0][1]


def _peak(usage: resource.struct_rusage) -> int:
  """Return the largest resident memory of a process [bytes]."""
  return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
