"""The disk space that the stages of a run take."""

from collections.abc import Mapping
import math
import pathlib
import shutil
from typing import Any

import jax
from jax.sharding import Mesh

from undo_jax.models.config import num_params
from undo_jax.plan.stages import (
  AblateStage,
  AttackStage,
  PredictionsStage,
  SaliencyStage,
  Stage,
  TrainStage,
)
from undo_jax.running import predictions, programs
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


def kept_bytes(stage: Stage, mesh: Mesh, rows: Mapping[str, int] | None = None) -> int:
  """Return what a finished stage keeps: weights, or predictions.

  An attack keeps those of every member; an adapter is kept alone.

  Args:
    stage: of a plan.
    mesh: of the devices that are here.
    rows: of each split; None: they are not made yet, and predictions of them are 0.
  """
  if isinstance(stage, PredictionsStage):
    count = sum(rows[split] for split in stage.splits) if rows else 0
    return count * predictions.row_bytes(stage)
  if isinstance(stage, SaliencyStage):
    return len(stage.parts) * 4 * num_params(stage.model)
  if isinstance(stage, AblateStage):
    return 4 * num_params(stage.model)
  state = _state(stage, mesh, at_once=1)
  return 0 if state is None else _bytes(state.params)


def open_bytes(
  stage: Stage, mesh: Mesh, num_kept: int, replicas_at_once: int | None = None
) -> int:
  """Return what the checkpoints of a stage take while it trains.

  One more than is kept, since the next is written before the oldest is removed.

  Args:
    stage: of a plan.
    mesh: of the devices that are here.
    num_kept: checkpoints of a stage that is not finished.
    replicas_at_once: members of an attack whose optimizer's states there are; None:
      all.
  """
  state = _state(stage, mesh, at_once=replicas_at_once)
  return 0 if state is None else (num_kept + 1) * _bytes(state)


def check(workdir: files.Path, kept: int, opened: int) -> None:
  """Print what a run takes of the disk and what is free there.

  Args:
    workdir: of the run; may be missing.
    kept: bytes that its stages keep when they are done.
    opened: bytes that one of them takes more while it trains.

  Raises:
    ConfigError: if what is kept is more than is free.
  """
  takes = f"{kept / 2**30:.3g} GiB"
  print(f"on disk: {takes}, and up to {opened / 2**30:.3g} GiB while a stage trains")
  if files.is_remote(workdir):
    return
  there = pathlib.Path(workdir).resolve()
  while not there.exists():
    there = there.parent
  free = shutil.disk_usage(there).free
  if kept > free:
    raise ConfigError(
      f"--workdir: expected at most {free / 2**30:.3g} GiB, which is what is free, got "
      f"{takes}; free space, or name a directory of another disk"
    )


def _state(stage: Stage, mesh: Mesh, *, at_once: int | None) -> Any:
  """Return shapes of what a stage trains; None: it trains nothing."""
  if isinstance(stage, TrainStage):
    return programs.training_of(stage, mesh).abstract
  if isinstance(stage, AttackStage):
    return programs.abstract_attack(stage, mesh, at_once)
  return None


def _bytes(tree: Any) -> int:
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))
