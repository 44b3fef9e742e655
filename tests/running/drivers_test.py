"""Several drivers here: their shares of the processors, how they end, a whole run."""

import os
import signal

import pytest

from tests import children, sharing
from undo_jax.distributed import preemption
from undo_jax.engines import worker
from undo_jax.running import drivers
from undo_jax.utils.errors import ConfigError, RunFailed

needs_two = pytest.mark.skipif(
  len(drivers.processors()) < 2, reason="needs two processors"
)


@pytest.mark.parametrize(
  "processors, count, expected",
  [
    ([0, 1], 2, [[0], [1]]),
    ([3, 5, 8], 2, [[3], [5, 8]]),
    (range(8), 3, [[0, 1], [2, 3, 4], [5, 6, 7]]),
    ([4], 1, [[4]]),
  ],
)
def test_each_processor_goes_to_one_driver(processors, count, expected):
  assert drivers.shares(processors, count) == expected


def test_more_drivers_than_processors_are_refused():
  with pytest.raises(ConfigError, match="--num_workers: expected at most 2 .* got 3"):
    drivers.shares([0, 1], 3)


def go(code, monkeypatch, *, num_restarts=1):
  """Run two drivers that run some code, and the arguments of a run."""
  monkeypatch.setattr(worker, "_MAIN", f"import os, pathlib, sys, time\n{code}")
  drivers.run_drivers([], ["undo"], num_workers=2, num_restarts=num_restarts)


@needs_two
@pytest.mark.processes
def test_each_driver_has_all_stages_and_its_own_processors(monkeypatch, tmp_path):
  code = (
    f"name = pathlib.Path({str(tmp_path)!r}, *map(str, os.sched_getaffinity(0)))\n"
    "name.write_text(' '.join(sys.argv[1:]))"
  )
  one, two = drivers.processors()[:2]
  monkeypatch.setattr(drivers, "processors", lambda: [one, two])
  go(code, monkeypatch)
  written = {path.name: path.read_text() for path in tmp_path.iterdir()}
  assert written == dict.fromkeys((str(one), str(two)), "undo --stages=all")


@needs_two
@pytest.mark.processes
def test_the_first_error_ends_all_and_is_told(monkeypatch, tmp_path):
  code = (
    f"first = pathlib.Path({str(tmp_path / 'first')!r})\n"
    "try: first.touch(exist_ok=False)\n"
    "except FileExistsError: time.sleep(60); sys.exit(0)\n"
    "print('error: the loss is nan', file=sys.stderr); sys.exit(1)"
  )
  with pytest.raises(RunFailed, match="^the loss is nan$") as failed:
    go(code, monkeypatch)
  assert failed.value.status == 1


@needs_two
@pytest.mark.processes
def test_a_driver_that_is_killed_is_started_again(monkeypatch, tmp_path):
  code = (
    f"names = [pathlib.Path({str(tmp_path)!r}, str(i)) for i in range(9)]\n"
    "for name in names:\n"
    "  try: name.touch(exist_ok=False)\n"
    "  except FileExistsError: continue\n"
    "  break\n"
    "if name.name in '02': os.kill(os.getpid(), 9)"
  )
  go(code, monkeypatch)
  # Two; the first again, which is killed as well, and no driver is left to start.
  assert len(list(tmp_path.iterdir())) == 3


@needs_two
@pytest.mark.processes
def test_sigterm_lets_all_save_and_end(monkeypatch):
  monkeypatch.setattr(preemption, "ask", lambda: lambda: True)
  with pytest.raises(preemption.Preempted, match="all drivers have saved"):
    go("time.sleep(60)", monkeypatch)


@needs_two
@pytest.mark.processes
def test_a_run_of_two_drivers_of_which_one_is_killed_is_that_of_one(alone, tmp_path):
  names = ["relearn_base", "relearn_max_ent"]
  workdir = sharing.copied(alone, tmp_path / "run", without=names)
  driver = children.start(*sharing.command(workdir, "--num_workers=2"))
  killed = sharing.wait_for_holder(workdir, alone, names[0], driver)
  os.kill(killed, signal.SIGKILL)
  assert driver.wait() == 0, driver.printed()[1]
  assert "ended by status -9" in driver.printed()[1]
  sharing.assert_equal(workdir, alone)
