"""Stages that run elsewhere: every ready stage goes to a worker of an engine."""

import collections
from collections.abc import Sequence
import logging
import time

from undo_jax.distributed import preemption
from undo_jax.engines.engine import Ended, Engine, Worker
from undo_jax.running.run import Run
from undo_jax.running.sharing import POLL_SECONDS, STORE_POLL_SECONDS, Board, Task
from undo_jax.utils import files
from undo_jax.utils.errors import RunFailed

LOGGER = logging.getLogger("undo_jax")


def run_elsewhere(
  runs: Sequence[Run],
  engine: Engine,
  arguments: Sequence[str],
  *,
  num_workers: int,
  num_restarts: int,
) -> None:
  """Run all stages by workers, independent ones at the same time.

  Args:
    runs: of one workdir.
    engine: where workers are started; closed at the end.
    arguments: of undo-jax, to which the name of a worker's stage is added.
    num_workers: at once, at most.
    num_restarts: of a stage whose worker is gone.

  Raises:
    RunFailed: if a stage failed; raised once all that ran beside it have ended.
    preemption.Preempted: after SIGTERM, once all workers have saved and ended.
  """
  driver = _Driver(runs, engine, arguments, num_workers, num_restarts)
  with preemption.deferred():
    try:
      while driver.step():
        driver.pause()
    finally:
      driver.terminate()
      engine.close()


class _Driver:
  def __init__(
    self,
    runs: Sequence[Run],
    engine: Engine,
    arguments: Sequence[str],
    num_workers: int,
    num_restarts: int,
  ):
    self._board, self._engine, self._arguments = Board(runs), engine, [*arguments]
    self._num_workers, self._num_restarts = num_workers, num_restarts
    self._tasks = {task.name: task for task in self._board.tasks}
    self._running: dict[str, Worker] = {}
    self._restarts: collections.Counter[str] = collections.Counter()
    self._failure: RunFailed | None = None
    is_remote = files.is_remote(runs[0].workdir)
    self._poll = STORE_POLL_SECONDS if is_remote else POLL_SECONDS

  def step(self) -> bool:
    """Look after the workers and start others; return whether anything is left."""
    if preemption.ask()():
      self._stop()
    self._look()
    if self._failure is not None:
      if not self._running:
        raise self._failure
      return True
    left = self._board.left()
    for task in left:
      if len(self._running) < self._num_workers and self._is_free(task):
        self._start(task)
    return bool(left or self._running)

  def pause(self) -> None:
    """Wait until it is worthwhile to look again."""
    time.sleep(self._poll)

  def terminate(self) -> None:
    """Tell all workers to save and end."""
    for worker in self._running.values():
      worker.terminate()

  def _is_free(self, task: Task) -> bool:
    """Whether a stage can be run, and nobody runs it."""
    if task.name in self._running or not self._board.is_ready(task):
      return False
    if self._board.lease(task).is_taken():
      self._board.tell_holder(task)
      return False
    return True

  def _start(self, task: Task) -> None:
    LOGGER.info("%s: goes to a worker", task.title)
    arguments = [*self._arguments, f"--stages={task.name}"]
    self._running[task.name] = self._engine.start(task.name, arguments)

  def _look(self) -> None:
    """See which workers have ended."""
    for name, worker in list(self._running.items()):
      ended = worker.poll()
      if ended is not None:
        del self._running[name]
        self._take(self._tasks[name], ended)

  def _take(self, task: Task, ended: Ended) -> None:
    """Take how a stage's worker ended."""
    if self._board.is_done(task.name, task.run):
      LOGGER.info("%s: done", task.title)
    elif ended.status in (1, 2) and ended.line.startswith("error: "):
      line = ended.line.removeprefix("error: ")
      self._fail(RunFailed(f"{task.run.label}{task.stage.name}: {line}", ended.status))
    elif ended.status == preemption.EXIT_STATUS:
      LOGGER.info("%s: its worker was told to end, and has saved", task.title)
    elif self._restarts[task.name] < self._num_restarts:
      self._restarts[task.name] += 1
      count = f"{self._restarts[task.name]} of {self._num_restarts}"
      LOGGER.warning("%s: %s; it is started again (%s)", task.title, _why(ended), count)
    else:
      times = self._num_restarts + 1
      self._fail(
        RunFailed(
          f"{task.run.label}{task.stage.name}: its workers ended without a result, "
          f"{times} of {times}; {_why(ended)}",
          1,
        )
      )

  def _fail(self, failure: RunFailed) -> None:
    """Keep the first failure; let what runs beside it finish."""
    LOGGER.error("%s", failure)
    if self._running:
      others = ", ".join(self._running)
      LOGGER.info("nothing more is started; waiting for %s", others)
    self._failure = self._failure or failure

  def _stop(self) -> None:
    """End the run after SIGTERM."""
    LOGGER.info("stopping: %d workers are told to save", len(self._running))
    self.terminate()
    while self._running:
      self._look()
      time.sleep(0.1)
    raise preemption.Preempted("stopped by SIGTERM; all workers have saved and ended")


def _why(ended: Ended) -> str:
  """Return how a worker ended, for the reader."""
  if ended.status is None:
    return f"its worker is gone ({ended.line})"
  if ended.status < 0:
    return f"its worker was ended by signal {-ended.status} (last: {ended.line})"
  return f"its worker ended by status {ended.status} (last: {ended.line})"
