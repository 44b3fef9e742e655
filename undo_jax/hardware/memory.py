"""How much memory devices have free."""

from typing import Any

import jax


def free_bytes(device: Any) -> float:
  """Return what a device has free now; devices of the host share its memory."""
  stats = device.memory_stats()
  if stats is not None and "bytes_limit" in stats:
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
  import psutil  # Here, since it is needed for the host alone.

  return psutil.virtual_memory().available / len(jax.local_devices())
