"""What the benchmarks that compile for slices share."""

import importlib.metadata
from typing import Any

from undo_jax import config as configs
from undo_jax.distributed import sharding
from undo_jax.estimation import programs
from undo_jax.plan import checks, translation
from undo_jax.plan.config import parse
from undo_jax.plan.stages import TrainStage


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
  """Return the step of UNDO's distillation of configs/pods.py.

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
  config = configs.shipped(f"pods:{size}")
  config.data.sequence_length = length
  config.model.update(model)
  config.mesh.update(mesh or {"data": 1, "fsdp": len(devices)})
  of_devices = sharding.make_mesh(**config.mesh, devices=devices)
  shards = of_devices.shape["data"] * of_devices.shape["fsdp"]
  # The other stages' rows are not compiled, but checked.
  for recipe in config.models.values():
    recipe.batch_size, recipe.num_microbatches = rows, 1
  config.models.undo.num_microbatches = num_microbatches
  config.evaluation_rows = config.attacks.relearn.batch_size = shards
  declared = parse(config)
  checks.check(declared, dict(of_devices.shape))
  stage = next(
    stage
    for stage in translation.plan(declared, declared.seeds[0])
    if isinstance(stage, TrainStage) and declared.models[stage.name].family == "undo"
  )
  return programs.of_stage(stage, of_devices)


def versions(*packages: str) -> str:
  """Return the versions of the compiler and of packages, of those that are here."""
  texts = []
  for name in ("jax", "libtpu", *packages):
    try:
      texts.append(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
      continue
  return ", ".join(texts)
