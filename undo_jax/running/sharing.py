"""Which stage runs next; several drivers share the stages of a workdir by leases.

The driver that runs a stage holds the lease in its directory (see utils/leases.py); of
several processes, the first one does. If nothing else is ready, a driver waits for
stages that others run. A driver that loses its lease writes nothing more to that
stage, and goes on with the others. The same attack on several models may run as one
program, with a lease for each model.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
import contextlib
import dataclasses
import logging
import time
from typing import Any

import jax

from undo_jax.distributed import preemption, processes
from undo_jax.plan import stages
from undo_jax.plan.stages import (
  AblateStage,
  AttackStage,
  DataStage,
  EditStage,
  GivenStage,
  PredictionsStage,
  SaliencyStage,
  SelectionStage,
  Stage,
  TrainStage,
)
from undo_jax.running import students
from undo_jax.running.ablation import run_ablation
from undo_jax.running.attack import run_attacks
from undo_jax.running.data import run_data
from undo_jax.running.edit import run_edit
from undo_jax.running.given import run_given
from undo_jax.running.predictions import run_predictions
from undo_jax.running.run import Outcome, Run
from undo_jax.running.saliency import run_saliency
from undo_jax.running.selection import run_selection
from undo_jax.running.training import run_trainings
from undo_jax.training import checkpointing
from undo_jax.utils import files
from undo_jax.utils.leases import Lease, LeaseLost
from undo_jax.utils.types import ConfigError, JsonObject

LOGGER = logging.getLogger("undo_jax")
# How a stage of each kind runs: (run, stage, directory, title) -> outcome. Attacks run
# by run_attacks, training by run_trainings.
RUN: dict[type[Stage], Callable[..., Outcome]] = {
  DataStage: run_data,
  GivenStage: run_given,
  SaliencyStage: run_saliency,
  PredictionsStage: run_predictions,
  SelectionStage: run_selection,
  AblateStage: run_ablation,
  EditStage: run_edit,
}
# Between two looks at what others run: on a disk, in a store.
POLL_SECONDS, STORE_POLL_SECONDS = 0.5, 5.0
ALL = "all"  # In the place of names: every stage.


@dataclasses.dataclass(frozen=True)
class Task:
  """A stage, to be run once for all runs that have it."""

  run: Run
  number: int  # Of the stage, from 1.

  @property
  def stage(self) -> Stage:
    """The stage."""
    return self.run.stages[self.number - 1]

  @property
  def directory(self) -> files.Path:
    """Its directory, which distinguishes stages of several seeds."""
    return self.run.directories[self.stage.name]

  @property
  def name(self) -> str:
    """Its directory's name: NAME-IDENTITY."""
    return self.directory.name

  @property
  def inputs(self) -> list[str]:
    """The directories' names of the stages that it reads."""
    return [self.run.directories[x].name for x in self.stage.inputs.values()]

  @property
  def title(self) -> str:
    """Its title in messages."""
    run = self.run
    return f"[{self.number}/{len(run.stages)}] {run.label}{self.stage.name}"


class Board:
  """The stages of several runs: which are finished, which can be run now."""

  def __init__(self, runs: Sequence[Run], only: Collection[str] | None = None):
    """Take the stages of all runs, each once.

    Args:
      runs: of one workdir.
      only: the directories' names of the stages to run; None: all.
    """
    tasks = [Task(run, n + 1) for run in runs for n in range(len(run.stages))]
    every = {task.name: task for task in reversed(tasks)}
    self.tasks = [task for task in tasks if every[task.name] is task]
    self._only, self._done = only, set[str]()
    self._leases: dict[str, Lease] = {}
    self._said: set[tuple[str, str]] = set()

  def is_done(self, name: str, run: Run) -> bool:
    """Whether the stage of a directory is finished."""
    if name not in self._done and run.is_done(name):
      self._done.add(name)
    return name in self._done

  def left(self) -> list[Task]:
    """Return the stages to be run that are not finished."""
    return [
      task
      for task in self.tasks
      if (self._only is None or task.name in self._only)
      and not self.is_done(task.name, task.run)
    ]

  def is_ready(self, task: Task) -> bool:
    """Whether all that a stage reads is finished."""
    return all(self.is_done(name, task.run) for name in task.inputs)

  def lease(self, task: Task) -> Lease:
    """Return this process's view of a stage's lease, always the same."""
    return self._leases.setdefault(task.name, Lease(task.directory / "leases"))

  def take(self) -> list[Task]:
    """Take the lease of the first stage that can be run now, if there is any.

    If that is an attack, also those of the same on other models, and if it is a
    student, others of its teacher, as many as the run has at once.
    """
    taken: list[Task] = []
    most = 0
    for task in self.left():
      if taken and not _are_alike(taken[0], task):
        continue
      if self.is_ready(task) and self._take(task):
        taken.append(task)
        most = most or _num_at_once(task)
      if taken and len(taken) >= most:
        break
    return taken

  def _take(self, task: Task) -> bool:
    """Take the lease of a stage unless another has it, or has finished the stage."""
    lease = self.lease(task)
    if not lease.take():
      self.tell_holder(task)
      return False
    if self.is_done(task.name, task.run):  # Since it was looked at.
      lease.release()
      return False
    return True

  def tell_holder(self, task: Task) -> None:
    """Log which driver runs a stage, once for each."""
    said = task.name, self.lease(task).holder
    if said not in self._said:
      LOGGER.info("%s: is run by %s; it is waited for, or others go first", *said)
      self._said.add(said)


def _num_at_once(task: Task) -> int:
  """Return how many stages like this one may run together."""
  if isinstance(task.stage, AttackStage):
    return task.run.models_at_once
  return students.number(task.run, task.stage)


def _are_alike(task: Task, other: Task) -> bool:
  """Whether two stages are attacks that differ in nothing but the model attacked.

  Or students of one teacher.
  """
  if not (isinstance(task.stage, AttackStage) and isinstance(other.stage, AttackStage)):
    return students.are_alike(task.run, task.stage, other.run, other.stage)
  data, others = (x.run.directories[x.run.data.name] for x in (task, other))
  return data == others and task.stage.but_for_target == other.stage.but_for_target


def named(runs: Sequence[Run], names: Collection[str]) -> list[Task]:
  """Return the stages of some names: of all runs, or of one by a directory's.

  The name ALL stands for every stage.

  Raises:
    ConfigError: if there is no such stage.
  """
  tasks = Board(runs).tasks
  if [*names] == [ALL]:
    return tasks
  known = {name for task in tasks for name in (task.stage.name, task.name)}
  for name in names:
    if name not in known:
      given = ", ".join(task.stage.name for task in tasks)
      raise ConfigError(f"--stages: {name!r} is none of {given}")
  return [task for task in tasks if {task.stage.name, task.name} & {*names}]


def check_inputs(tasks: Sequence[Task]) -> None:
  """Raise ConfigError if some stages read others that are neither there nor theirs."""
  names = {task.name for task in tasks}
  for task in tasks:
    for name in task.inputs:
      if name not in names and not task.run.is_done(name):
        raise ConfigError(
          f"--stages: {task.name} reads {name}, which is not finished; run that first"
        )


def run_shared(runs: Sequence[Run], only: Collection[str] | None = None) -> None:
  """Run all stages, or see them run by others, until all are finished.

  Args:
    runs: of one workdir.
    only: the directories' names of the stages to run; None: all.
  """
  board = Board(runs, only)
  numbers = {task.name: number for number, task in enumerate(board.tasks)}

  def choose() -> list[int] | None:
    if taken := board.take():
      return [numbers[task.name] for task in taken]
    if not (left := board.left()):
      return None
    is_remote = files.is_remote(left[0].directory)
    time.sleep(STORE_POLL_SECONDS if is_remote else POLL_SECONDS)
    return []

  while (chosen := processes.on_first("next", choose)) is not None:
    if chosen:
      _run_leased([_leased(board, board.tasks[number]) for number in chosen])
    preemption.check()


def _leased(board: Board, task: Task) -> Task:
  """Return a stage whose run knows its lease, in the first process."""
  lease = board.lease(task) if processes.is_first() else None
  return dataclasses.replace(task, run=dataclasses.replace(task.run, lease=lease))


def _run_leased(tasks: Sequence[Task]) -> None:
  """Run a stage, or several together, and release the leases after it."""
  try:
    with _unless_lost(tasks), preemption.also(lambda: _are_lost(tasks)):
      _run(tasks)
  finally:
    for task in tasks:
      if task.run.lease is not None:
        task.run.lease.release()


def _are_lost(tasks: Sequence[Task]) -> bool:
  """Whether none of the stages is this process's any more, as far as is known."""
  return not any(task.run.may_write() for task in tasks)


@contextlib.contextmanager
def _unless_lost(tasks: Sequence[Task]) -> Iterator[None]:
  """Leave the block if the leases of all these stages are lost."""
  titles = ", ".join(task.title for task in tasks)
  try:
    yield
  except LeaseLost:
    LOGGER.warning("%s: lost to another process, which goes on with it", titles)
  except Exception:
    # Whoever has it now may have cleared away what was being written.
    if jax.process_count() > 1 or not _are_lost(tasks):
      raise
    LOGGER.warning("%s: lost to another process", titles, exc_info=True)


def _run(tasks: Sequence[Task]) -> None:
  """Run a stage, or several together, and write the done.json of each.

  Raises:
    ConfigError, FloatingPointError: if one diverged, once the others are finished.
  """
  for task in tasks if processes.is_first() else ():
    files.write_record(task.directory / "config.json", _describe(task.run, task.stage))
  failures = []
  for number, outcome in _outcomes(tasks):
    task = tasks[number]
    try:
      with _unless_lost([task]):
        _finish(task, outcome)
    except (ConfigError, FloatingPointError) as error:
      failures.append(error)
  if failures:
    raise failures[0]


def _outcomes(tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome | Exception]]:
  """Run a stage, or several together; yield the place and outcome or error of each."""
  described: list[Any] = [(t.run, t.stage, t.directory, t.title) for t in tasks]
  kind = type(tasks[0].stage)
  if kind is AttackStage:
    return enumerate(run_attacks(described))
  if kind is TrainStage:
    return run_trainings(described)
  return enumerate(RUN[kind](*each) for each in described)


def _finish(task: Task, outcome: Outcome | Exception) -> None:
  """Write the done.json of a stage, or raise the error that ended it."""
  if isinstance(outcome, Exception):
    raise outcome
  if not processes.on_first("lease", task.run.may_save):
    raise LeaseLost(task.title)
  if processes.is_first():
    checkpointing.keep_newest(task.directory / "checkpoints")
    files.write_record(task.directory / "done.json", outcome)
    checkpointing.keep_params(task.directory / "checkpoints")
  # Later stages read it, in every process.
  processes.wait(f"done_{task.directory.name}")
  LOGGER.info("%s: done. %s", task.title, summary(outcome))


def _describe(run: Run, stage: Stage) -> JsonObject:
  """Return a stage's config.json: what determines it, and where its inputs are."""
  inputs = {role: run.directories[name].name for role, name in stage.inputs.items()}
  described = {**stages.to_json(stage), "input_directories": inputs}
  if stage.name in run.given:
    described["path"] = str(run.given[stage.name].path)
  return described


def summary(outcome: JsonObject) -> str:
  """Return a finished stage's outcome in one line."""
  if "updates" in outcome:
    retain, forget = (_score(outcome["scores"][name]) for name in ("retain", "forget"))
    updates = f"{outcome['updates']} updates ({outcome['reason']})"
    return f"{updates}, retain {retain}, forget {forget}"
  if "batches" in outcome:
    return f"squared gradients of {outcome['batches']} batches of each part"
  if "predicted" in outcome:
    return f"predictions of {outcome['predicted']} rows, {outcome['bytes']:,} bytes"
  if "selected" in outcome:
    selected, labelled, rows = (
      sum(outcome[name].values()) for name in ("selected", "labelled", "rows")
    )
    precision, recall = (f"{outcome[name]:.3f}" for name in ("precision", "recall"))
    return (
      f"{selected} of {rows} rows selected by {labelled} labelled ones, precision "
      f"{precision}, recall {recall}"
    )
  if "steps" in outcome:
    worst = outcome["worst_forget"]
    return "worst forget: " + ", ".join(
      f"{worst[i]:.2f} after {outcome['steps'][i]}"
      for i in sorted({0, min(2, len(worst) - 1), len(worst) - 1})
    )
  return f"{outcome['rows']} rows, {outcome['evaluation']} evaluation problems"


def _score(value: float | None) -> str:
  return "not finite" if value is None else f"{value:.3f}"
