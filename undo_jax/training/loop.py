"""The one training loop: save, evaluate, maybe stop, train; in this order.

Each of several processes runs it and takes the same path, because everything that it
decides on is the same in all of them.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
import contextlib
import dataclasses
import math
import time
from typing import Any, TypeAlias

import jax
import numpy as np

from undo_jax.distributed import preemption
from undo_jax.training import optimizers
from undo_jax.training.checkpointing import Checkpoints
from undo_jax.training.meter import Meter
from undo_jax.training.profiling import Profiler
from undo_jax.training.state import TrainState
from undo_jax.training.step import Step, Steps
from undo_jax.training.writers import Progress, Writer
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import Frozen

Scores = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Several:
  """Updates that are dispatched together, where the host is slower than the devices."""

  at_once: int  # At most.
  steps: Steps  # Compiled; the state is donated to it.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """When a stage does what; all numbers are updates."""

  num_steps: int  # At most so many.
  checkpoint_every: int
  evaluate_every: int | None = None  # None: only at the end.
  max_loss: float = math.inf  # A loss beyond it, of either sign, ends the stage.
  # Updates of a decay that the stop rule begins, instead of ending the stage.
  decay_steps: int | None = None

  def end(self, state: TrainState) -> int:
    """Return after how many updates the stage ends, unless a rule says earlier."""
    if self.decay_steps is None:
      return self.num_steps
    begin = optimizers.decay_begin(state.opt_state)
    assert begin is not None, "the optimizer was made for such a decay"
    return begin + self.decay_steps

  def is_evaluation(self, step: int) -> bool:
    """Whether the model is scored after `step` updates: 1, multiples."""
    every = self.evaluate_every
    return every is not None and step > 0 and (step == 1 or step % every == 0)

  def pause(self, step: int, end: int, most: int) -> int:
    """Return the first step after `step` at which something else than training is due.

    It is at most `most` updates away.
    """
    for after in range(step + 1, min(step + most, end)):
      if after % self.checkpoint_every == 0 or self.is_evaluation(after):
        return after
    return min(step + most, end)


@dataclasses.dataclass(frozen=True)
class Result:
  """How a stage ended."""

  state: TrainState
  updates: int
  scores: Scores  # Of the final model.
  # "recovered" by the stop rule, "step limit", or without a rule "fixed budget".
  reason: str


# Yields how many batches it takes next, and is sent them, placed on the devices.
Training: TypeAlias = Generator[int, Any, Result]


def train(
  training: Training,
  data: Iterator[Any],
  *,
  put: Callable[[Sequence[Any]], Any],
  meter: Meter,
) -> Result:
  """Run a stage's training to its end.

  Args:
    training: what `begin` returned.
    data: an iterator over the batches from that of the state's step on.
    put: places the batches of a dispatch on the devices.
    meter: the training's.

  Returns, Raises: as `begin`.
  """
  placed = None  # The first time, which begins it.
  while True:
    try:
      count = training.send(placed)
    except StopIteration as end:
      return end.value
    with meter.input():
      placed = put([next(data) for _ in range(count)])


def train_together(
  trainings: Sequence[Training],
  data: Iterator[Any],
  *,
  put: Callable[[Any], Any],
  meters: Sequence[Meter],
) -> Iterator[tuple[int, Result | Exception]]:
  """Run the trainings of several stages, which take each batch one after the other.

  Args:
    trainings: what `begin` returned, each at the same update; one that ends, or fails,
      leaves the others alone.
    data: an iterator over the batches from that update on.
    put: places a batch on the devices, with what they share of it.
    meters: of each training.

  Yields:
    Of each, as soon as it ends, its place and its result, or the error that ended it.

  Raises:
    preemption.Preempted: after SIGTERM to any process; all states are saved.
  """
  placed, preempted, going = None, None, dict(enumerate(trainings))
  while going:
    for index, training in list(going.items()):
      try:
        training.send(placed)  # The first time None, which begins it.
        continue
      except StopIteration as end:
        result = end.value
      except preemption.Preempted as error:
        result, preempted = None, error
      except (FloatingPointError, LeaseLost) as error:
        result = error
      del going[index]
      if result is not None:
        yield index, result
    if going:
      with contextlib.ExitStack() as stack:
        for meter in meters:
          stack.enter_context(meter.input())
        placed = put(next(data))
  if preempted is not None:
    raise preempted


def begin(
  step_fn: Step,
  state: TrainState,
  frozen: Frozen,
  key: jax.Array,
  *,
  schedule: Schedule,
  evaluate: Callable[[Any], Scores],
  should_stop: Callable[[Scores], bool] | None,
  checkpoints: Checkpoints,
  writer: Writer,
  progress: Progress,
  meter: Meter,
  profiler: Profiler,
  describe_batch: Callable[[int], str],
  several: Several | None = None,
) -> Training:
  """Train from `state` on to the stop rule or the last step.

  Args:
    step_fn: the compiled step; `state` is donated to it.
    state: where training starts; the step in it counts.
    frozen: passed through to the step.
    key: the stage's PRNG key.
    schedule: when to evaluate, to save and to end.
    evaluate: scores of parameters, as floats.
    should_stop: whether scores end the stage; None: there is no such rule.
    checkpoints: where the state goes.
    writer: takes rows of kind "train" (of the update), "evaluation", "checkpoint".
    progress: advances by one each update.
    meter: measures the time of each.
    profiler: of some of them.
    describe_batch: returns which rows a batch held, by the number of updates before it.
    several: dispatches updates together between which nothing else is due; None: each
      is dispatched alone, by `step_fn`.

  Yields:
    How many batches it takes next.

  Returns:
    The final state with its scores; it is saved, with all that was before.

  Raises:
    FloatingPointError: if loss or gradient is not finite or the loss beyond
      schedule.max_loss; names update, batch and checkpoint.
    preemption.Preempted: after SIGTERM to any process; the state is saved.
  """
  step, scores, end = int(state.step), {}, schedule.end(state)
  reason = "step limit" if should_stop else "fixed budget"
  if end < schedule.num_steps:
    reason = "recovered"  # Before a checkpoint from which this goes on.
  report = _Report(schedule, checkpoints, writer, progress, meter, describe_batch)
  while True:
    # The order matters: what is saved at a step has not been evaluated at it, so
    # a resumed stage takes the same evaluation again and then the same batch.
    if step and step % schedule.checkpoint_every == 0:
      report.flush()
      _save(checkpoints, state, writer)
      meter.restart()
    if step == end or schedule.is_evaluation(step):
      report.flush()
      scores = evaluate(state.params)
      writer.write(step, "evaluation", **scores)
      decay = schedule.decay_steps
      may_stop = decay is None or step < end - decay
      if should_stop and may_stop and should_stop(scores):
        reason = "recovered"
        if decay is None:
          break
        decaying = optimizers.begin_decay(state.opt_state, step)
        state = state._replace(opt_state=decaying)
        end = schedule.end(state)
      meter.restart()
    if step >= end:
      break
    first, step = step + 1, schedule.pause(step, end, several.at_once if several else 1)
    count = step - first + 1
    profiler.before(step)
    placed = yield count
    if several:
      state, metrics = several.steps(state, frozen, placed, key, count)
    else:
      state, metrics = step_fn(state, frozen, placed, key)
    profiler.after(step, metrics)
    # The metrics of an update are read while the next one runs.
    is_preempted = report.flush()
    report.expect(range(first, step + 1), metrics, preemption.ask())
    progress.update(count)
    if is_preempted:
      report.flush()
      _save(checkpoints, state, writer)
      checkpoints.finish()
      raise preemption.Preempted(f"stopped by SIGTERM after update {step}")
  _save(checkpoints, state, writer)
  checkpoints.finish()
  return Result(state, step, scores, reason)


def _save(checkpoints: Checkpoints, state: TrainState, writer: Writer) -> None:
  """Save a state under its step, if that is not done yet.

  Writes for how long training waited, and how long the save before took in all.
  """
  step, start = int(state.step), time.perf_counter()
  rest = {"step": state.step, "opt_state": state.opt_state}
  if checkpoints.save(step, state.params, rest):
    row = {"seconds": time.perf_counter() - start}
    if checkpoints.written_seconds is not None:
      row["written_seconds"] = checkpoints.written_seconds
    writer.write(step, "checkpoint", **row)


def restore(checkpoints: Checkpoints, step: int, abstract: TrainState) -> TrainState:
  """Restore what `train` saved."""
  rest = {"step": abstract.step, "opt_state": abstract.opt_state}
  params, rest = checkpoints.restore(step, abstract.params, rest)
  return TrainState(rest["step"], params, rest["opt_state"])


@dataclasses.dataclass
class _Report:
  """Writes the rows of updates once their metrics are there."""

  schedule: Schedule
  checkpoints: Checkpoints
  writer: Writer
  progress: Progress
  meter: Meter
  describe_batch: Callable[[int], str]
  pending: tuple[range, Any, Callable[[], bool]] | None = None
  is_told: bool = False  # Of SIGTERM.

  def expect(
    self, steps: range, metrics: object, is_preempted: Callable[[], bool]
  ) -> None:
    """Take the metrics of updates of one dispatch, which may still run."""
    self.pending = steps, metrics, is_preempted

  def flush(self) -> bool:
    """Wait for the last updates; return whether SIGTERM had come when they began."""
    if self.pending is None:
      return self.is_told
    steps, metrics, is_preempted = self.pending
    self.pending = None
    fetched = {name: np.ravel(value) for name, value in jax.device_get(metrics).items()}
    measured = self.meter.row(updates=len(steps))
    for name in ("seconds", "input_seconds"):  # Of each of them.
      measured[name] /= len(steps)
    for index, step in enumerate(steps):
      row = {name: float(values[index]) for name, values in fetched.items()}
      self._check(step, row)
      self.writer.write(step, "train", **row, **measured)
      self.progress.note(f"loss {row['loss']:.3f}")
    self.is_told = self.is_told or is_preempted()
    return self.is_told

  def _check(self, step: int, row: dict[str, float]) -> None:
    loss, norm = row["loss"], row["gradient_norm"]
    if math.isfinite(norm) and abs(loss) <= self.schedule.max_loss:
      return
    saved = self.checkpoints.latest()
    good = "there is none" if saved is None else f"that of update {saved}"
    rows = self.describe_batch(step - 1)
    raise FloatingPointError(
      f"the loss is {loss:g} and the norm of its gradient {norm:g} at update {step}; "
      f"the last good checkpoint: {good}. The batch was of {rows}. Lower the learning "
      "rate, or look at these rows"
    )
