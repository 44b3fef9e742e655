"""Several drivers on this machine, which share the stages and the processors.

Small programs do not use many processors well: two drivers with one processor each are
faster than one driver with two. Each keeps the programs that it has compiled.
"""

from collections.abc import Sequence
import logging
import os
import time

from undo_jax.distributed import preemption
from undo_jax.engines import worker
from undo_jax.engines.engine import Ended
from undo_jax.running.run import Run
from undo_jax.running.sharing import ALL
from undo_jax.utils.errors import ConfigError, RunFailed

LOGGER = logging.getLogger("undo_jax")


def run_drivers(
  runs: Sequence[Run],
  arguments: Sequence[str],
  *,
  num_workers: int,
  num_restarts: int,
) -> None:
  """Run all stages by drivers, until all stages are finished.

  Args:
    runs: of one workdir.
    arguments: of undo-jax, by which a driver knows what they are.
    num_workers: drivers, at most one a processor.
    num_restarts: how often, in all, drivers that disappeared are restarted; others
      take over the stage of a driver that is not restarted.

  Raises:
    RunFailed: if a stage failed or all drivers are gone, once all have ended.
    preemption.Preempted: after SIGTERM, once all have saved and ended.
  """
  with preemption.deferred():
    drivers = _Drivers(arguments, num_workers, num_restarts)
    try:
      while drivers.step():
        time.sleep(0.1)
    finally:
      drivers.terminate()
  if drivers.failure is not None:
    raise drivers.failure
  if drivers.is_stopped:
    raise preemption.Preempted("stopped by SIGTERM; all drivers have saved and ended")
  if not all(run.done(stage.name) for run in runs for stage in run.stages):
    raise RunFailed(f"all drivers are gone; the last said: {drivers.last}", 1)


def shares(processors: Sequence[int], count: int) -> list[list[int]]:
  """Divide processors among drivers as equally as possible, neighbours together.

  Raises:
    ConfigError: if there are more drivers than processors.
  """
  if count > len(processors):
    raise ConfigError(
      f"--num_workers: expected at most {len(processors)} on this machine, a processor "
      f"each, got {count}"
    )
  bounds = [i * len(processors) // count for i in range(count + 1)]
  return [[*processors[a:b]] for a, b in zip(bounds, bounds[1:], strict=False)]


def processors() -> list[int]:
  """Return the numbers of the processors that this process may run on."""
  if hasattr(os, "sched_getaffinity"):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


class _Drivers:
  def __init__(self, arguments: Sequence[str], count: int, num_restarts: int):
    self._arguments = [*arguments, f"--stages={ALL}"]
    self._shares, self._restarts = shares(processors(), count), num_restarts
    self._running = {number: self._start(number) for number in range(count)}
    self.failure: RunFailed | None = None
    self.is_stopped, self._is_told, self.last = False, False, "nothing"

  def step(self) -> bool:
    """Look after the drivers; return whether any is left."""
    if not self._is_told and preemption.ask()():
      self.is_stopped = True
      LOGGER.info("stopping: %d drivers are told to save", len(self._running))
      self.terminate()
    for number, driver in list(self._running.items()):
      ended = driver.poll()
      if ended is not None:
        del self._running[number]
        self._take(number, ended)
    return bool(self._running)

  def terminate(self) -> None:
    """Tell all drivers to save and end."""
    self._is_told = True
    for driver in self._running.values():
      driver.terminate()

  def _start(self, number: int) -> worker.Process:
    is_linux = hasattr(os, "sched_setaffinity")
    return worker.Process(self._arguments, self._shares[number] if is_linux else ())

  def _take(self, number: int, ended: Ended) -> None:
    """Take how a driver ended."""
    self.last = ended.line
    if ended.status in (1, 2) and ended.line.startswith("error: "):
      line = ended.line.removeprefix("error: ")
      self.failure = self.failure or RunFailed(line, ended.status)
      LOGGER.error("%s", line)
      self.terminate()
    elif ended.status not in (0, preemption.EXIT_STATUS) and not self._is_told:
      how = f"driver {number + 1} ended by status {ended.status} (last: {ended.line})"
      if self._restarts:
        self._restarts -= 1
        LOGGER.warning("%s; it is started again (%d left)", how, self._restarts)
        self._running[number] = self._start(number)
      else:
        LOGGER.warning("%s; others go on with what it ran", how)
