"""Checkpoints of a stage, written and read by all processes together.

Training goes on while one is written.
"""

from collections.abc import Callable, Collection
from concurrent import futures
import contextlib
import logging
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
import psutil

from undo_jax.distributed import preemption, processes
from undo_jax.utils import allocator, checksums, files
from undo_jax.utils.files import Path
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import ConfigError, Params

LOGGER = logging.getLogger("undo_jax")
CHECKSUMS = "checksums.json"  # In a checkpoint's directory, of its other files.
PARAMS, REST = "params", "rest"  # The two items of a checkpoint.
# On a CPU what is written is a copy in the memory that training uses too. Above this
# share of it training waits instead. A large copy's memory goes back to the kernel:
# what training takes next would not fit into the holes that it leaves.
LARGEST_COPY, LARGE_BYTES = 1 / 16, 1 << 28


class Checkpoints:
  """The checkpoints of one stage: saved whole or not at all, the newest ones kept.

  Each process writes and reads its parts of the arrays, so all of them must call every
  method; how many there are may change from one run to the next. Parameters are an
  item of their own, so that the next stage reads them without the optimizer's state.
  Bits that a disk has changed would silently decode to other weights, so what is read
  is compared with the checksums that were written with it. (Stores keep checksums of
  their own.)

  A save returns as soon as the arrays may be overwritten; a thread writes the rest,
  and then the checksums. (On a CPU whose memory is short of a copy of them it returns
  when all is written.) At most one save is pending. An error in it is raised by the
  next `save`, `latest` or `finish`.
  """

  def __init__(
    self,
    directory: Path,
    *,
    num_kept: int = 1,
    is_resumed: bool = False,
    may_save: Callable[[], bool] = lambda: True,
  ):
    """Open what is there.

    Args:
      directory: of the checkpoints.
      num_kept: how many are kept, the newest ones.
      is_resumed: whether a stage goes on from here. Then damaged checkpoints after the
        newest intact one are removed.
      may_save: asked in the first process before each save, and before that.

    Raises:
      LeaseLost: if something has to be removed and may not be.
    """
    self._intact = _leave_intact(directory, may_save) if is_resumed else None
    # Any: Orbax's policy classes do not match its own protocols' annotations.
    save_policies: Any = ocp.training.save_decision_policies
    keep_policies: Any = ocp.training.preservation_policies
    self._checkpointer = ocp.training.Checkpointer(
      os.fspath(directory),
      # Each save is asked for by the loop, which knows when one is due.
      save_decision_policy=save_policies.FixedIntervalPolicy(1),
      preservation_policy=keep_policies.LatestN(num_kept),
      cleanup_tmp_directories=True,
    )
    self._directory, self._may_save = directory, may_save
    self._thread = futures.ThreadPoolExecutor(1, "checkpoints")
    self._pending: futures.Future[None] | None = None
    self._has_failed = False
    self.written_seconds: float | None = None  # That the last complete save took.

  def latest(self) -> int | None:
    """Return the step of the newest checkpoint once it is complete, or None."""
    self.finish()
    latest = self._checkpointer.latest
    return None if latest is None else latest.step

  def save(self, step: int, params: Params, rest: object) -> bool:
    """Begin to write a checkpoint, once for each step.

    When it returns, the arrays may be donated or written over.

    Args:
      step: updates done.
      params: the parameters.
      rest: any pytree of arrays beside them (optimizer state, history).

    Returns:
      Whether it is new.

    Raises:
      LeaseLost: if it may not be saved any more.
      Exception: what ended the save before this one.
    """
    if not processes.on_first("lease", self._may_save):
      raise LeaseLost(os.fspath(self._directory))
    if step == self.latest():
      return False  # Writing it again would remove it for a while.
    items = {PARAMS: params, REST: rest}
    copied = sum(map(_num_host_bytes, jax.tree.leaves(items)))
    waits = copied > LARGEST_COPY * psutil.virtual_memory().total
    if not waits:
      items = jax.tree.map(_apart, items)
    with preemption.uninterrupted():
      saving = self._checkpointer.save_checkpointables_async(step, items)
      assert saving is not None, "each save that is asked for is made"
      self._pending = self._thread.submit(
        self._complete, saving, self._of(step), time.perf_counter()
      )
      if copied >= LARGE_BYTES:  # After that, in the same thread.
        self._thread.submit(allocator.return_freed_memory)
    if waits:
      self.finish()
    return True

  def finish(self) -> None:
    """Return when what was saved is complete, with its checksums, for all processes.

    Raises:
      Exception: what ended the save; once.
    """
    if self._pending is None:
      return
    pending, self._pending = self._pending, None
    with preemption.uninterrupted():
      self._has_failed = pending.exception() is not None
      pending.result()
      processes.on_first("saved", lambda: None)  # Its checksums too.

  def restore(self, step: int, params: Params, rest: object) -> tuple[Params, Any]:
    """Read a checkpoint into the shardings of the given abstract trees.

    Args:
      step: which checkpoint.
      params: tree of ShapeDtypeStructs with shardings.
      rest: the same for the rest.

    Returns:
      (params, rest) on the devices.

    Raises:
      ConfigError: if a file is not as it was written.
    """
    loaded = self.read(step, {PARAMS: params, REST: rest})
    return loaded[PARAMS], loaded[REST]

  def read(self, step: int, items: dict[str, Any]) -> dict[str, Any]:
    """Read some items of a checkpoint; see `restore`."""
    self.finish()
    if step != self._intact:  # All of its files have just been compared.
      processes.on_first("checksums", lambda: _check(self._of(step), items))
    with preemption.uninterrupted():
      return self._checkpointer.load_checkpointables(step, items)

  def saved(self, step: int, item: str) -> Any:
    """Return an item's tree of what its arrays are (`shape`, `dtype`), unread.

    Raises:
      ConfigError: if a file is not as it was written.
    """
    self.finish()
    if step != self._intact:
      processes.on_first("checksums", lambda: _check(self._of(step), (PARAMS, REST)))
    with preemption.uninterrupted():
      return self._checkpointer.checkpointables_metadata(step).metadata[item]

  def _complete(self, saving: Any, directory: Path, start: float) -> None:
    """Wait for a checkpoint that is being written, and write its checksums."""
    saving.result()
    if processes.is_first():
      _write_checksums(directory)
    self.written_seconds = time.perf_counter() - start

  def _of(self, step: int) -> Path:
    return self._directory / str(step)

  def close(self) -> None:
    """Wait for what is pending, only log its error, and give up the rest.

    Call `finish` first where everything must be saved: another error may be the reason
    to close.
    """
    with preemption.deferred():
      error = self._pending and self._pending.exception()
      if error is not None:
        LOGGER.warning("a checkpoint in %s was not saved: %s", self._directory, error)
        self._has_failed = True
      self._thread.shutdown()
      # Orbax raises again what ended a save.
      with contextlib.suppress(*[Exception] * self._has_failed):
        self._checkpointer.close()


def _num_host_bytes(leaf: Any) -> int:
  """Return how much memory of this host `_apart` takes for a leaf."""
  if isinstance(leaf, np.ndarray):
    return leaf.nbytes
  if not isinstance(leaf, jax.Array) or not _is_on_host(leaf):
    return 0
  return sum(shard.data.nbytes for shard in leaf.addressable_shards)


def _is_on_host(leaf: jax.Array) -> bool:
  return next(iter(leaf.sharding.device_set)).platform == "cpu"


def _apart(leaf: Any) -> Any:
  """Return a leaf that stays as it is when the given one is overwritten.

  The next step is given the buffers of a state to write over. Other devices' are on
  the host when Orbax returns; those of a CPU are there already, and it reads them
  where they lie.
  """
  if isinstance(leaf, np.ndarray):
    return leaf.copy()
  if not isinstance(leaf, jax.Array) or not _is_on_host(leaf):
    return leaf
  parts = [
    jax.device_put(shard.data, shard.device, may_alias=False)
    for shard in leaf.addressable_shards
  ]
  return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, parts)


def load_params(directory: Path, abstract: Params) -> Params:
  """Read the parameters alone of the newest checkpoint in a directory.

  Raises:
    FileNotFoundError: if there is none.
    ConfigError: if a file of it is not as it was written.
  """
  checkpoints = Checkpoints(directory)
  try:
    step = checkpoints.latest()
    if step is None:
      raise FileNotFoundError(f"no complete checkpoint in {directory}")
    return checkpoints.read(step, {PARAMS: abstract})[PARAMS]
  finally:
    checkpoints.close()


def keep_newest(directory: Path) -> None:
  """Remove all checkpoints but the newest, by one process; no other may be at work.

  What cannot be removed is left: it takes room and is never read.
  """
  for step in _steps(directory)[:-1]:
    with contextlib.suppress(OSError):
      files.remove_tree(directory / str(step))


def keep_params(directory: Path) -> None:
  """Remove what a finished stage's checkpoints hold beside the parameters.

  Of a model trained by Adam that is two thirds. Others may read the parameters at the
  same time. What cannot be removed is left: it takes room and is never read.
  """
  for step in _steps(directory):
    with contextlib.suppress(OSError):
      files.remove_tree(directory / str(step) / REST)


def _steps(directory: Path) -> list[int]:
  """Return the steps of all complete checkpoints, in order."""
  names = [path.name for path in directory.iterdir()] if directory.exists() else []
  return sorted(int(name) for name in names if name.isdecimal())


def _leave_intact(directory: Path, may_remove: Callable[[], bool]) -> int | None:
  """Remove what is damaged after the newest intact checkpoint; return its step.

  If none is intact, None is returned, as for a store, and what a finished stage left is
  removed alone: its done.json is missing, and training cannot go on from parameters.
  """
  if not isinstance(directory, pathlib.Path):
    return None
  intact, others = processes.on_first("intact", lambda: _newest_intact(directory))
  if others:
    if not processes.on_first("lease", may_remove):
      raise LeaseLost(os.fspath(directory))
    processes.on_first("damaged", lambda: _remove(directory, others, intact))
  return intact


def _newest_intact(directory: pathlib.Path) -> tuple[int | None, list[int]]:
  """Return the step of the newest intact checkpoint, and the steps to be removed.

  A checkpoint without checksums does not count as intact: its process was killed
  before it wrote them, or a disk has lost them.
  """
  steps = _steps(directory)
  for index, step in reversed(list(enumerate(steps))):
    if _damaged_file(directory / str(step)) is None:
      return step, steps[index + 1 :]
  return None, [step for step in steps if not (directory / str(step) / REST).exists()]


def _remove(
  directory: pathlib.Path, steps: Collection[int], intact: int | None
) -> None:
  """Remove damaged checkpoints, and say so."""
  for step in steps:
    damaged = directory / str(step)
    LOGGER.warning(
      "%s is not as it was written and is removed; the stage goes on from update %d",
      _damaged_file(damaged) or damaged,
      intact or 0,
    )
    try:
      files.remove_tree(damaged)
    except OSError as error:
      raise ConfigError(
        f"{damaged} is damaged and cannot be removed: {error.strerror}; delete it"
      ) from None


def _write_checksums(directory: Path) -> None:
  """Write the checksum of each file of a checkpoint on this machine's disks."""
  if isinstance(directory, pathlib.Path):
    paths = files.tree(directory)
    of_files = {str(x.relative_to(directory)): checksums.of_file(x) for x in paths}
    files.write_record(directory / CHECKSUMS, of_files)


def _check(directory: Path, items: Collection[str]) -> None:
  """Compare the files of some items with their checksums, if a checkpoint has any.

  A process killed before it wrote them leaves none.

  Raises:
    ConfigError: names the first file that differs.
  """
  if isinstance(directory, pathlib.Path) and (directory / CHECKSUMS).exists():
    damaged = _damaged_file(directory, items)
    if damaged is not None:
      raise checksums.damaged(damaged)


def _damaged_file(
  directory: pathlib.Path, items: Collection[str] | None = None
) -> pathlib.Path | None:
  """Return the first file of some items, or of all, that is not as it was written."""
  path = directory / CHECKSUMS
  try:
    of_files = files.read_record(path)
  except (ConfigError, OSError):
    return path
  for name, checksum in of_files.items():
    item, *inside = pathlib.PurePath(name).parts
    is_read = items is None or not inside or item in items
    if is_read and not checksums.is_intact(directory / name, checksum):
      return directory / name
  return None
