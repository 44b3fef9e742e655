"""Checkpoints of a stage, written and read by all processes together."""

import os
from typing import Any

from orbax.checkpoint import v1 as ocp

from undo_jax.utils.files import Path
from undo_jax.utils.types import Params


class Checkpoints:
  """The checkpoints of one stage: saved whole or not at all, the newest kept.

  Each process writes and reads its parts of the arrays, so all of them must call every
  method; how many there are may change from one run to the next. Parameters are an
  item of their own, so that the next stage reads them without the optimizer's state.
  """

  def __init__(self, directory: Path):
    # Any: Orbax's policy classes do not match its own protocols' annotations.
    save_policies: Any = ocp.training.save_decision_policies
    keep_policies: Any = ocp.training.preservation_policies
    self._checkpointer = ocp.training.Checkpointer(
      os.fspath(directory),
      # Each save is asked for by the loop, which knows when one is due.
      save_decision_policy=save_policies.FixedIntervalPolicy(1),
      preservation_policy=keep_policies.LatestN(1),
      cleanup_tmp_directories=True,
    )

  def latest(self) -> int | None:
    """Returns the step of the newest complete checkpoint, or None."""
    latest = self._checkpointer.latest
    return None if latest is None else latest.step

  def save(self, step: int, params: Params, rest: object) -> bool:
    """Writes a checkpoint and returns when it is complete; once for each step.

    Args:
      step: updates done.
      params: the parameters.
      rest: any pytree of arrays beside them (optimizer state, history).

    Returns:
      Whether it was not there yet.
    """
    if step == self.latest():
      return False  # Writing it again would remove the only checkpoint for a while.
    items = {"params": params, "rest": rest}
    # Blocking: an asynchronous save could still read buffers that the next step
    # has been given to overwrite.
    self._checkpointer.save_checkpointables(step, items)
    return True

  def restore(self, step: int, params: Params, rest: object) -> tuple[Params, Any]:
    """Reads a checkpoint into the shardings of the given abstract trees.

    Args:
      step: which checkpoint.
      params: tree of ShapeDtypeStructs with shardings.
      rest: the same for the rest.

    Returns:
      (params, rest) on the devices.
    """
    items = {"params": params, "rest": rest}
    loaded = self._checkpointer.load_checkpointables(step, items)
    return loaded["params"], loaded["rest"]

  def close(self) -> None:
    """Waits for and closes the checkpointer."""
    self._checkpointer.close()


def load_params(directory: Path, abstract: Params) -> Params:
  """Reads the parameters alone of the newest checkpoint in a directory.

  Raises:
    FileNotFoundError: if there is none.
  """
  checkpoints = Checkpoints(directory)
  try:
    step = checkpoints.latest()
    if step is None:
      raise FileNotFoundError(f"no complete checkpoint in {directory}")
    items = {"params": abstract}
    return checkpoints._checkpointer.load_checkpointables(step, items)["params"]
  finally:
    checkpoints.close()
