"""The memory that a run takes on the devices of this machine."""

from collections.abc import Collection
import math

from jax.sharding import Mesh

from undo_jax.estimation import programs, table
from undo_jax.estimation.estimate import Estimate, estimate
from undo_jax.hardware import memory
from undo_jax.hardware.chips import Target
from undo_jax.plan.config import RunConfig
from undo_jax.utils.types import ConfigError


def check(config: RunConfig, mesh: Mesh, names: Collection[str]) -> list[Estimate]:
  """Compile a run's programs for the devices of its mesh and print what they take.

  A program's memory is that of its arguments, which the run holds, its results and its
  temporaries. Libraries, programs and batches take less than a gigabyte more.

  Args:
    config: of the run.
    mesh: of the devices that are here.
    names: of the stages that are to be run; the programs of others are left out.

  Returns:
    The estimates, one a program.

  Raises:
    ConfigError: if one takes more than its device has free.
  """
  here, estimates = _here(mesh), []
  print(table.heading(here, dict(mesh.shape)), flush=True)
  for stages, program, args in programs.of_run(config, mesh):
    chosen = [name for name in stages if name in names]
    if chosen or stages == programs.EVALUATION:
      name = ", ".join(chosen or stages)
      estimates.append(estimate(name, program, args, here, mesh.size))
      print(table.line(estimates[-1]), flush=True)
  too_large = [each for each in estimates if not each.fits]
  if too_large:
    most = max(too_large, key=lambda each: each.total_bytes)
    raise ConfigError(
      f"{most.name}: expected at most {here.memory_bytes / 2**30:.3g} GiB a device, "
      f"which is what is free, got {_size(most)}; lower batch_size, model.logits_chunk "
      "or the number of learning rates of an attack, or raise num_microbatches"
    )
  return estimates


def _size(result: Estimate) -> str:
  return result.refusal or f"{result.total_bytes / 2**30:.3g} GiB"


def _here(mesh: Mesh) -> Target:
  """Return a device of the mesh as a target, its memory what is free of it now."""
  device = mesh.devices.flat[0]
  return Target(
    name=device.device_kind,
    kind=device.device_kind,
    flops_per_second=math.inf,  # It is not asked for times.
    memory_bytes=memory.free_bytes(device),
    link_bytes_per_second=math.inf,
  )
