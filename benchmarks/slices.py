"""What the benchmarks that compile for slices share."""

import importlib.metadata
from typing import Any

from configs import pods
from undo_jax import stages, validation
from undo_jax.distributed import sharding
from undo_jax.estimation import programs


def distillation(
  devices: list[Any],
  *,
  rows: int,
  length: int = 1024,
  size: str = "gemma2_2b",
  num_microbatches: int = 1,
  mesh: dict[str, int] | None = None,
  **model: Any,
) -> programs.Lowered:
  """Returns the step of UNDO's distillation of configs/pods.py.

  Args:
    devices: to compile for.
    rows: of an update, all devices together.
    length: tokens of a row.
    size: of configs/pods.py.
    num_microbatches: parts in which the batch is taken.
    mesh: its axes; None: fsdp over all devices.
    **model: changed fields of the model, as remat.

  Raises:
    ConfigError: if rows and mesh do not go together.
  """
  config = pods.get_config(size)
  config.data.sequence_length = length
  config.distill.batch_size = rows
  config.distill.num_microbatches = num_microbatches
  config.model.update(model)
  config.mesh.update(mesh or {"data": 1, "fsdp": len(devices)})
  of_devices = sharding.make_mesh(**config.mesh, devices=devices)
  shards = of_devices.shape["data"] * of_devices.shape["fsdp"]
  # The other stages' rows are not compiled, but checked.
  for name in ("pretrain", "oracle"):
    config[name].batch_size = rows
  for name in config.unlearn.methods:
    config.unlearn[name].batch_size = rows
  config.evaluation_rows = config.attack.batch_size = shards
  validation.check(config, dict(of_devices.shape))
  name = stages.undo_name(config.undo.alphas[0])
  stage = next(stage for stage in stages.plan(config) if stage.name == name)
  return programs.of_stage(stage, of_devices)


def versions(*packages: str) -> str:
  """Returns the versions of the compiler and of packages, of those that are here."""
  found = []
  for name in ("jax", "libtpu", *packages):
    try:
      found.append(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
      continue
  return ", ".join(found)
