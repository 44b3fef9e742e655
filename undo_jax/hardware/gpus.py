"""What XLA's compiler asks of a GPU that is not here, from its datasheet."""

import dataclasses
import os
import re
from typing import Any

from jax.experimental import topologies

_COMMON = """
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
  """Of one kind, what differs from the others."""

  kind: str  # As jax.Device.device_kind has it.
  capability: int
  cores: int  # Streaming multiprocessors.
  units: int  # Of float32 in a core.
  shared_bytes: int  # In a core.
  cache_bytes: int
  memory_bytes: int
  bytes_per_second: int
  gigahertz: float


# Reference: NVIDIA's data sheets and CUDA's table of compute capabilities.
GPUS = {
  "a100": Gpu(
    kind="NVIDIA A100-SXM4-80GB",
    capability=8,
    cores=108,
    units=64,
    shared_bytes=164 * 1024,
    cache_bytes=40 * 2**20,
    memory_bytes=80 * 10**9,
    bytes_per_second=2039 * 10**9,
    gigahertz=1.41,
  ),
  "h100": Gpu(
    kind="NVIDIA H100 80GB HBM3",
    capability=9,
    cores=132,
    units=128,
    shared_bytes=228 * 1024,
    cache_bytes=50 * 2**20,
    memory_bytes=80 * 10**9,
    bytes_per_second=3352 * 10**9,
    gigahertz=1.98,
  ),
}


def topology(name: str) -> Any:
  """Returns the topology of GPUs, "h100:8" of one host or "h100:2x8" of two.

  Raises:
    NotImplementedError: if JAX's CUDA plugin is not installed.
    ValueError: if the shape is none.
  """
  kind, _, shape = name.partition(":")
  if not re.fullmatch(r"([1-9]\d*x)?[1-9]\d*", shape):
    raise ValueError(f"{shape!r} is not GPUs or hosts x GPUs")
  hosts, _, each = shape.rpartition("x")
  # The plugin would look for the CUDA libraries, which compiling does not need.
  os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
  return topologies.get_topology_desc(
    platform="cuda",
    topology_name=name,
    target_config=_text(GPUS[kind]),
    topology=f"1x{hosts or 1}x{each}",  # Slices, hosts, devices.
  )


def _text(gpu: Gpu) -> str:
  return f"""gpu_device_info {{ {_COMMON}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.units}
  shared_memory_per_core: {gpu.shared_bytes}
  shared_memory_per_block_optin: {gpu.shared_bytes - 1024}
  l2_cache_size: {gpu.cache_bytes}
  device_memory_size: {gpu.memory_bytes}
  memory_bandwidth: {gpu.bytes_per_second}
  clock_rate_ghz: {gpu.gigahertz}
  cuda_compute_capability {{ major: {gpu.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{gpu.kind}"
"""
