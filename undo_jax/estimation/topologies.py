"""The devices of a slice that is not here, to compile for."""

from collections.abc import Sequence
import re

from jax.experimental import topologies

from undo_jax.hardware import gpus
from undo_jax.hardware.chips import TARGETS, Device, Gpu, Target
from undo_jax.utils import extras
from undo_jax.utils.types import ConfigError


def get(name: str) -> tuple[Sequence[Device], Target]:
  """Return the devices of a slice and the datasheet of its chips.

  Args:
    name: generation and shape: v5e:2x2 (4 chips) to v5e:16x16 (256), v6e likewise,
      v5p:2x2x1 (4) to v5p:16x16x24 (6144);
      or of GPUs in one host or several: h100:8, h100:2x8, a100 likewise.

  Raises:
    ConfigError: if the name is unknown or the compiler is not installed.
  """
  generation, _, shape = name.partition(":")
  chip = TARGETS.get(generation)
  if chip is None:
    raise ConfigError(
      f"--topology: expected {', '.join(TARGETS)} with a shape such as v5e:4x4 or "
      f"h100:8, got {name!r}; other chips cannot be compiled for without one at hand"
    )
  try:
    if isinstance(chip, Gpu):
      return list(gpus.topology(chip, shape).devices), chip
    if not re.fullmatch(r"[1-9]\d?(x[1-9]\d?)+", shape):
      raise ValueError(f"{shape!r} is no shape")  # Of 0 the library ends the process.
    topology = topologies.get_topology_desc(platform="tpu", topology_name=name)
  # What jax raises on a missing library, another process that holds it, or an
  # unknown shape.
  except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:
    reason = str(error).split("\n")[0]
    raise ConfigError(_expected(chip).format(got=f"{name!r} ({reason})")) from error
  return list(topology.devices), chip


def _expected(chip: Target) -> str:
  if isinstance(chip, Gpu):
    return (
      "--topology: expected GPUs such as h100:8 or, of two hosts, h100:2x8, got {got}; "
      "the compiler is jax-cuda12-plugin of jaxlib's version, which "
      f"{extras.install('gpu')} brings, and needs no GPU"
    )
  return (
    "--topology: expected a slice that the TPU compiler knows, got {got}; shapes go "
    "from 2x2 to 16x16, of v5p from 2x2x1 on, and the compiler comes by "
    f"{extras.install('tpu-compile')}"
  )
