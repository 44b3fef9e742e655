"""The one training loop: save, evaluate, maybe stop, train; in this order.

Of several processes each runs it, and takes the same way: all that it decides on is the
same in all of them.
"""

from collections.abc import Callable, Iterator
import dataclasses
import math
import time
from typing import Any

import jax

from undo_jax.distributed import preemption
from undo_jax.training import optimizers
from undo_jax.training.checkpointing import Checkpoints
from undo_jax.training.meter import Meter
from undo_jax.training.profiling import Profiler
from undo_jax.training.state import TrainState
from undo_jax.training.step import Step
from undo_jax.training.writers import Progress, Writer
from undo_jax.utils.types import Frozen

Scores = dict[str, float]


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
    """Returns after how many updates the stage ends, unless a rule says earlier."""
    if self.decay_steps is None:
      return self.num_steps
    begin = optimizers.decay_begin(state.opt_state)
    assert begin is not None, "the optimizer was made for such a decay"
    return begin + self.decay_steps

  def is_evaluation(self, step: int) -> bool:
    """Whether the model is scored after `step` updates: 1, multiples."""
    every = self.evaluate_every
    return every is not None and step > 0 and (step == 1 or step % every == 0)


@dataclasses.dataclass(frozen=True)
class Result:
  """How a stage ended."""

  state: TrainState
  updates: int
  scores: Scores  # Of the final model.
  # "recovered" by the stop rule, "step limit", or without a rule "fixed budget".
  reason: str


def train(
  step_fn: Step,
  state: TrainState,
  frozen: Frozen,
  data: Iterator[Any],
  key: jax.Array,
  *,
  schedule: Schedule,
  put: Callable[[Any], Any],
  evaluate: Callable[[Any], Scores],
  should_stop: Callable[[Scores], bool] | None,
  checkpoints: Checkpoints,
  writer: Writer,
  progress: Progress,
  meter: Meter,
  profiler: Profiler,
  describe_batch: Callable[[int], str],
) -> Result:
  """Trains from `state` on to the stop rule or the last step.

  Args:
    step_fn: the compiled step; `state` is donated to it.
    state: where training starts; the step in it counts.
    frozen: passed through to the step.
    data: an iterator over the batches from that of the state's step on.
    key: the stage's PRNG key.
    schedule: when to evaluate, to save and to end.
    put: places a batch on the devices.
    evaluate: scores of parameters, as floats.
    should_stop: whether scores end the stage; None: there is no such rule.
    checkpoints: where the state goes.
    writer: takes rows of kind "train" (of the update), "evaluation", "checkpoint".
    progress, meter: advance by one each update; measure their time.
    profiler: of some of them.
    describe_batch: which rows the batch held that was read after so many updates.

  Returns:
    The final state with its scores; it is saved.

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
    step += 1
    profiler.before(step)
    with meter.input():
      batch = put(next(data))
    state, metrics = step_fn(state, frozen, batch, key)
    profiler.after(step, metrics)
    # The metrics of an update are read while the next one runs.
    is_preempted = report.flush()
    report.expect(step, metrics, preemption.ask())
    progress.update(1)
    if is_preempted:
      report.flush()
      _save(checkpoints, state, writer)
      raise preemption.Preempted(f"stopped by SIGTERM after update {step}")
  _save(checkpoints, state, writer)
  return Result(state, step, scores, reason)


def _save(checkpoints: Checkpoints, state: TrainState, writer: Writer) -> None:
  """Saves a state under its step, where it is not yet; tells how long it took."""
  step, start = int(state.step), time.perf_counter()
  rest = {"step": state.step, "opt_state": state.opt_state}
  if checkpoints.save(step, state.params, rest):
    writer.write(step, "checkpoint", seconds=time.perf_counter() - start)


def restore(checkpoints: Checkpoints, step: int, abstract: TrainState) -> TrainState:
  """Restores what `train` saved."""
  rest = {"step": abstract.step, "opt_state": abstract.opt_state}
  params, rest = checkpoints.restore(step, abstract.params, rest)
  return TrainState(rest["step"], params, rest["opt_state"])


@dataclasses.dataclass
class _Report:
  """Writes the row of an update once its metrics are there."""

  schedule: Schedule
  checkpoints: Checkpoints
  writer: Writer
  progress: Progress
  meter: Meter
  describe_batch: Callable[[int], str]
  pending: tuple[int, Any, Callable[[], bool]] | None = None

  def expect(
    self, step: int, metrics: object, is_preempted: Callable[[], bool]
  ) -> None:
    """Takes the metrics of an update that may still run."""
    self.pending = step, metrics, is_preempted

  def flush(self) -> bool:
    """Waits for the last update; returns whether SIGTERM came before its end."""
    if self.pending is None:
      return False
    step, metrics, is_preempted = self.pending
    self.pending = None
    row = {name: float(value) for name, value in jax.device_get(metrics).items()}
    self._check(step, row)
    self.writer.write(step, "train", **row, **self.meter.row())
    self.progress.note(f"loss {row['loss']:.3f}")
    return is_preempted()

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
