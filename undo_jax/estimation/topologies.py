"""The devices of a slice that is not here, to compile for."""

from typing import Any

from jax.experimental import topologies

from undo_jax.hardware import chips, gpus
from undo_jax.hardware.chips import Chip
from undo_jax.utils.types import ConfigError


def get(name: str) -> tuple[list[Any], Chip]:
  """Returns the devices of a slice and the datasheet of its chips.

  Args:
    name: generation and shape: v5e:2x2 (4 chips) to v5e:16x16 (256), v6e likewise;
      or of GPUs in one host or several: h100:8, h100:2x8, a100 likewise.

  Raises:
    ConfigError: if the name is unknown or the compiler is not installed.
  """
  generation = name.split(":")[0]
  if generation not in chips.CHIPS:
    raise ConfigError(
      f"--topology: expected {', '.join(chips.CHIPS)} with a shape such as v5e:4x4 or "
      f"h100:8, got {name!r}; other chips cannot be compiled for without one at hand"
    )
  if generation in gpus.GPUS:
    return _gpus(name)
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name)
  # What jax raises on a missing library, another process that holds it, or an
  # unknown shape.
  except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:
    reason = str(error).split("\n")[0]
    raise ConfigError(
      f"--topology: expected a slice that the TPU compiler knows, got {name!r} "
      f"({reason}); shapes go from 2x2 to 16x16, and the compiler comes by "
      "pip install 'undo_jax[tpu_compile]'"
    ) from error
  return list(found.devices), chips.by_kind(found.devices[0].device_kind)


def _gpus(name):
  try:
    found = gpus.topology(name)
  except (RuntimeError, ValueError, NotImplementedError) as error:
    reason = str(error).split("\n")[0]
    raise ConfigError(
      f"--topology: expected GPUs such as h100:8 or, of two hosts, h100:2x8, got "
      f"{name!r} ({reason}); the compiler is jax-cuda12-plugin of jaxlib's version, "
      "which pip install 'undo_jax[gpu]' brings, and needs no GPU"
    ) from error
  return list(found.devices), chips.by_kind(found.devices[0].device_kind)
