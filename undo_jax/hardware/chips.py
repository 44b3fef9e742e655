"""The one table of chips, with peaks from their public datasheets."""

from collections.abc import Sequence
import dataclasses
from typing import Protocol


class Device(Protocol):
  """What counts here of a jax.Device."""

  @property
  def device_kind(self) -> str:
    """What JAX calls the chip."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One accelerator."""

  name: str  # That a topology begins with.
  kind: str  # How jax.Device.device_kind begins.
  flops_per_second: float  # Peak of dense bfloat16 products, without sparsity.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target(Chip):
  """A chip that programs can be compiled for on other machines."""

  memory_bytes: float  # What a program may have of it, as the compiler says.
  link_bytes_per_second: float  # Sent to its neighbours, all links together.
  cycles_per_second: float = 0  # Of the clock in which the compiler counts; 0: none.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu(Target):
  """A GPU, with what XLA's compiler asks of one; see gpus.py."""

  description: str  # The whole device kind.
  capability: int
  cores: int  # Streaming multiprocessors.
  units: int  # Of float32 in a core.
  shared_bytes: int  # In a core.
  cache_bytes: int
  whole_memory_bytes: int  # JAX takes a part of it, unless told otherwise.
  bytes_per_second: int  # To and from it.
  gigahertz: float


# Reference: cloud.google.com/tpu/docs, NVIDIA's datasheets and CUDA's table of compute
# capabilities. The clock of the TPUs is the one at which the matrix units reach the
# peak: v5e 4 of 128 x 128, v5p 8 of them, v6e 4 of 256 x 256 (2 FLOPs a cell).
_ALL = (
  Chip(name="v4", kind="TPU v4", flops_per_second=275e12),
  Target(
    name="v5e",
    kind="TPU v5 lite",
    flops_per_second=197e12,
    memory_bytes=15.75 * 2**30,  # Of 16.
    link_bytes_per_second=200e9,
    cycles_per_second=1.503e9,
  ),
  Target(
    name="v5p",
    kind="TPU v5",
    flops_per_second=459e12,
    memory_bytes=95.73 * 2**30,
    link_bytes_per_second=600e9,
    cycles_per_second=1.751e9,
  ),
  Target(
    name="v6e",
    kind="TPU v6 lite",
    flops_per_second=918e12,
    memory_bytes=31.25 * 2**30,  # Of 32.
    link_bytes_per_second=400e9,
    cycles_per_second=1.751e9,
  ),
  Gpu(
    name="a100",
    kind="NVIDIA A100",
    description="NVIDIA A100-SXM4-80GB",
    flops_per_second=312e12,
    memory_bytes=60e9,
    link_bytes_per_second=300e9,  # Within a host.
    capability=8,
    cores=108,
    units=64,
    shared_bytes=164 * 1024,
    cache_bytes=40 * 2**20,
    whole_memory_bytes=80 * 10**9,
    bytes_per_second=2039 * 10**9,
    gigahertz=1.41,
  ),
  Chip(name="h100_pcie", kind="NVIDIA H100 PCIe", flops_per_second=756e12),
  Gpu(
    name="h100",
    kind="NVIDIA H100",
    description="NVIDIA H100 80GB HBM3",
    flops_per_second=989e12,
    memory_bytes=60e9,
    link_bytes_per_second=450e9,
    capability=9,
    cores=132,
    units=128,
    shared_bytes=228 * 1024,
    cache_bytes=50 * 2**20,
    whole_memory_bytes=80 * 10**9,
    bytes_per_second=3352 * 10**9,
    gigahertz=1.98,
  ),
  Chip(name="h200", kind="NVIDIA H200", flops_per_second=989e12),
  Chip(name="l40s", kind="NVIDIA L40S", flops_per_second=362e12),
  Chip(name="l4", kind="NVIDIA L4", flops_per_second=121e12),
)
CHIPS: dict[str, Chip] = {chip.name: chip for chip in _ALL}
TARGETS = {name: chip for name, chip in CHIPS.items() if isinstance(chip, Target)}


def of(device: Device) -> Chip | None:
  """Return the chip whose kind a device's begins with, the longest such; or None."""
  known = [chip for chip in CHIPS.values() if device.device_kind.startswith(chip.kind)]
  return max(known, key=lambda chip: len(chip.kind), default=None)


def peak(devices: Sequence[Device]) -> float | None:
  """Return the FLOPs a second of devices together; None if CHIPS has not their kind.

  Args:
    devices: all of one kind.
  """
  chip = of(devices[0])
  return None if chip is None else chip.flops_per_second * len(devices)
