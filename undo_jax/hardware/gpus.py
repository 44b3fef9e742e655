"""What XLA's compiler asks of a GPU that is not here, from its datasheet."""

import os
import re

from jax.experimental import topologies

from undo_jax.hardware import chips

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


def topology(gpu: chips.Gpu, shape: str) -> topologies.TopologyDescription:
  """Return the topology of GPUs, "8" of one host or "2x8" of two.

  Raises:
    NotImplementedError: if JAX's CUDA plugin is not installed.
    ValueError: if the shape is none.
  """
  if not re.fullmatch(r"([1-9]\d*x)?[1-9]\d*", shape):
    raise ValueError(f"{shape!r} is not GPUs or hosts x GPUs")
  hosts, _, each = shape.rpartition("x")
  # The plugin would look for the CUDA libraries, which compiling does not need.
  os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
  return topologies.get_topology_desc(
    platform="cuda",
    topology_name=f"{gpu.name}:{shape}",
    target_config=_text(gpu),
    topology=f"1x{hosts or 1}x{each}",  # Slices, hosts, devices.
  )


def _text(gpu: chips.Gpu) -> str:
  return f"""gpu_device_info {{ {_COMMON}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.units}
  shared_memory_per_core: {gpu.shared_bytes}
  shared_memory_per_block_optin: {gpu.shared_bytes - 1024}
  l2_cache_size: {gpu.cache_bytes}
  device_memory_size: {gpu.whole_memory_bytes}
  memory_bandwidth: {gpu.bytes_per_second}
  clock_rate_ghz: {gpu.gigahertz}
  cuda_compute_capability {{ major: {gpu.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "{gpu.description}"
"""
