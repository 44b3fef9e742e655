"""The one training loop: save, evaluate, maybe stop, train; in this order."""

from collections.abc import Callable, Iterator
import dataclasses
import math
from typing import Any

import jax

from undo_jax.training.checkpointing import Checkpoints
from undo_jax.training.state import TrainState
from undo_jax.training.step import Step
from undo_jax.training.writers import JsonlWriter, Progress
from undo_jax.types import Frozen

Scores = dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """When a stage does what; all numbers are updates."""

  num_steps: int  # At most so many.
  checkpoint_every: int
  evaluate_every: int | None = None  # None: only at the end.

  def is_evaluation(self, step: int) -> bool:
    """Whether the model is scored after `step` updates: 1, multiples, the end."""
    if step == self.num_steps:
      return True
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
  writer: JsonlWriter,
  progress: Progress,
) -> Result:
  """Trains from `state` on to the stop rule or the last step.

  Args:
    step_fn: the compiled step; `state` is donated to it.
    state: where training starts; the step in it counts.
    frozen: passed through to the step.
    data: an iterator standing at the batch of the state's step.
    key: the stage's PRNG key.
    schedule: when to evaluate, to save and to end.
    put: places a batch on the devices.
    evaluate: scores of parameters, as floats.
    should_stop: whether scores end the stage; None: there is no such rule.
    checkpoints: where state and iterator go together.
    writer: takes rows of kind "train" (of the update) and "evaluation".
    progress: advances by one each update.

  Returns:
    The final state with its scores; it is saved.

  Raises:
    FloatingPointError: if the loss is not finite; names step and checkpoint.
  """
  step = int(state.step)
  pending = None  # Metrics of the last update: read while the next one runs.
  reason, scores = "step limit" if should_stop else "fixed budget", {}
  while True:
    # The order matters: what is saved at a step has not been evaluated at it, so
    # a resumed stage takes the same evaluation again and then the same batch.
    if step and step % schedule.checkpoint_every == 0:
      pending = _report(pending, writer, progress, checkpoints)
      save(checkpoints, state, data)
    if schedule.is_evaluation(step):
      pending = _report(pending, writer, progress, checkpoints)
      scores = evaluate(state.params)
      writer.write(step, "evaluation", **scores)
      if should_stop and should_stop(scores):
        reason = "recovered"
        break
    if step >= schedule.num_steps:
      break
    state, metrics = step_fn(state, frozen, put(next(data)), key)
    _report(pending, writer, progress, checkpoints)
    step += 1
    pending = (step, metrics)
    progress.update(1)
  save(checkpoints, state, data)
  return Result(state, step, scores, reason)


def save(checkpoints: Checkpoints, state: TrainState, data: Any) -> None:
  """Saves a state and its data iterator under the state's step."""
  rest = {"step": state.step, "opt_state": state.opt_state}
  checkpoints.save(int(state.step), state.params, rest, data)


def restore(
  checkpoints: Checkpoints, step: int, abstract: TrainState, data: Any
) -> TrainState:
  """Restores what `save` wrote; `data` is moved to where it stood."""
  rest = {"step": abstract.step, "opt_state": abstract.opt_state}
  params, rest = checkpoints.restore(step, abstract.params, rest, data)
  return TrainState(rest["step"], params, rest["opt_state"])


def _report(pending, writer, progress, checkpoints):
  """Writes the row of an update, once its metrics are there; returns None."""
  if pending is None:
    return None
  step, metrics = pending
  row = {name: float(value) for name, value in jax.device_get(metrics).items()}
  if not math.isfinite(row["loss"]):
    raise FloatingPointError(
      f"the loss is {row['loss']} at update {step}; the last good checkpoint is "
      f"that of update {checkpoints.latest()}. Lower the learning rate, or look "
      "at the batch of this step"
    )
  writer.write(step, "train", **row)
  progress.note(f"loss {row['loss']:.3f}")
  return None
