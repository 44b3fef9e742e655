"""Checkpoints of a stage, written and read by all processes together."""

from collections.abc import Callable, Collection
import hashlib
import os
import pathlib
from typing import Any

from orbax.checkpoint import v1 as ocp

from undo_jax.distributed import preemption, processes
from undo_jax.utils import files
from undo_jax.utils.files import Path
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import ConfigError, Params

CHECKSUMS = "checksums.json"  # In a checkpoint's directory, of its other files.


class Checkpoints:
  """The checkpoints of one stage: saved whole or not at all, the newest kept.

  Each process writes and reads its parts of the arrays, so all of them must call every
  method; how many there are may change from one run to the next. Parameters are an
  item of their own, so that the next stage reads them without the optimizer's state.
  Bits that a disk has changed decode to other weights without a word: what is read has
  the checksums that were written with it. (Stores keep checksums of their own.)
  """

  def __init__(self, directory: Path, *, may_save: Callable[[], bool] = lambda: True):
    """Opens what is there.

    Args:
      directory: of the checkpoints.
      may_save: asked in the first process before each save.
    """
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
    self._directory, self._may_save = directory, may_save

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

    Raises:
      LeaseLost: if it may not be saved any more.
    """
    if not processes.on_first("lease", self._may_save):
      raise LeaseLost(os.fspath(self._directory))
    if step == self.latest():
      return False  # Writing it again would remove the only checkpoint for a while.
    items = {"params": params, "rest": rest}
    # Blocking: an asynchronous save could still read buffers that the next step
    # has been given to overwrite.
    with preemption.uninterrupted():
      self._checkpointer.save_checkpointables(step, items)
      processes.on_first("checksums", lambda: _write_checksums(self._of(step)))
    return True

  def restore(self, step: int, params: Params, rest: object) -> tuple[Params, Any]:
    """Reads a checkpoint into the shardings of the given abstract trees.

    Args:
      step: which checkpoint.
      params: tree of ShapeDtypeStructs with shardings.
      rest: the same for the rest.

    Returns:
      (params, rest) on the devices.

    Raises:
      ConfigError: if a file is not as it was written.
    """
    loaded = self.read(step, {"params": params, "rest": rest})
    return loaded["params"], loaded["rest"]

  def read(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
    """Reads some items of a checkpoint; see `restore`."""
    processes.on_first("checksums", lambda: _check(self._of(step), items))
    with preemption.uninterrupted():
      return self._checkpointer.load_checkpointables(step, items)

  def _of(self, step: int) -> Path:
    return self._directory / str(step)

  def close(self) -> None:
    """Waits for and closes the checkpointer."""
    with preemption.deferred():
      self._checkpointer.close()


def load_params(directory: Path, abstract: Params) -> Params:
  """Reads the parameters alone of the newest checkpoint in a directory.

  Raises:
    FileNotFoundError: if there is none.
    ConfigError: if a file of it is not as it was written.
  """
  checkpoints = Checkpoints(directory)
  try:
    step = checkpoints.latest()
    if step is None:
      raise FileNotFoundError(f"no complete checkpoint in {directory}")
    return checkpoints.read(step, {"params": abstract})["params"]
  finally:
    checkpoints.close()


def _write_checksums(directory: Path) -> None:
  """Writes the checksum of each file of a checkpoint on this machine's disks."""
  if isinstance(directory, pathlib.Path):
    found = files.tree(directory)
    checksums = {str(file.relative_to(directory)): _checksum(file) for file in found}
    files.write_json(directory / CHECKSUMS, checksums)


def _check(directory: Path, items: Collection[str]) -> None:
  """Compares the files of some items with their checksums, if a checkpoint has any.

  A process killed before it wrote them leaves none.

  Raises:
    ConfigError: names the first file that differs.
  """
  path = directory / CHECKSUMS
  if not isinstance(directory, pathlib.Path) or not path.exists():
    return
  for name, checksum in files.read_record(path).items():
    item, *inside = pathlib.PurePath(name).parts
    if inside and item not in items:
      continue
    file = directory / name
    if not file.is_file() or _checksum(file) != checksum:
      raise ConfigError(
        f"{file} is not as it was written: the disk has changed it; bring it back from "
        "a copy, or delete the directory of its stage to run that again"
      )


def _checksum(file: Path) -> str:
  with open(file, "rb") as opened:
    return hashlib.file_digest(opened, "sha256").hexdigest()
