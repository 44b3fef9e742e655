"""What a chip can do, from its public datasheet."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from undo_jax.utils.types import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One accelerator."""

  name: str
  kind: str  # As jax.Device.device_kind has it.
  memory_bytes: float  # What a program may have of it, as the compiler says.
  flops_per_second: float  # Peak of bfloat16 products.
  bytes_per_second: float  # To and from its own memory.
  link_bytes_per_second: float  # Sent to its neighbours, all links together.
  cycles_per_second: float  # Of the clock in which the compiler counts; 0: it does not.


# Reference: cloud.google.com/tpu/docs/v5e and v6e, NVIDIA's data sheets. The clock of
# the TPUs is the one at which the matrix units reach the peak: v5e 4 of 128 x 128, v6e
# 4 of 256 x 256 (2 FLOPs a cell).
CHIPS = {
  "v5e": Chip(
    name="v5e",
    kind="TPU v5 lite",
    memory_bytes=15.75 * 2**30,  # Of 16.
    flops_per_second=197e12,
    bytes_per_second=819e9,
    link_bytes_per_second=200e9,
    cycles_per_second=1.503e9,
  ),
  "v6e": Chip(
    name="v6e",
    kind="TPU v6 lite",
    memory_bytes=31.25 * 2**30,  # Of 32.
    flops_per_second=918e12,
    bytes_per_second=1640e9,
    link_bytes_per_second=400e9,
    cycles_per_second=1.751e9,
  ),
  "a100": Chip(
    name="a100",
    kind="NVIDIA A100-SXM4-80GB",
    memory_bytes=60e9,  # What JAX takes of 80 unless told otherwise.
    flops_per_second=312e12,
    bytes_per_second=2039e9,
    link_bytes_per_second=300e9,  # Within a host.
    cycles_per_second=0,
  ),
  "h100": Chip(
    name="h100",
    kind="NVIDIA H100 80GB HBM3",
    memory_bytes=60e9,
    flops_per_second=989e12,
    bytes_per_second=3352e9,
    link_bytes_per_second=450e9,
    cycles_per_second=0,
  ),
}


# Peaks of dense bfloat16 products, FLOPs a second, by the beginning of the device kind.
# Reference: cloud.google.com/tpu/docs and NVIDIA's datasheets, without sparsity.
PEAKS = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,  # v5p.
  "TPU v6 lite": 918e12,
  "NVIDIA A100": 312e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H200": 989e12,
  "NVIDIA L40S": 362e12,
  "NVIDIA L4": 121e12,
}


def peak(devices: Sequence[Any]) -> float | None:
  """Returns the FLOPs a second of devices together; None if PEAKS has not their kind.

  Args:
    devices: jax.Device, all of one kind.
  """
  kind = devices[0].device_kind
  for beginning, flops in PEAKS.items():
    if kind.startswith(beginning):
      return flops * len(devices)
  return None


def by_kind(kind: str) -> Chip:
  """Returns the chip of a device kind.

  Raises:
    ConfigError: if the table has none.
  """
  for chip in CHIPS.values():
    if chip.kind == kind:
      return chip
  known = ", ".join(chip.kind for chip in CHIPS.values())
  raise ConfigError(f"no datasheet for {kind!r}; known are {known}")
