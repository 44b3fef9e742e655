"""The order in which a compiled program computes: for speed, or for little memory."""

import jax
from jax.sharding import Mesh

from undo_jax.utils.types import Params

# Below it, what is held at a time is little, and pieces computed side by side are
# faster.
LARGE_BYTES = 2**28


def options(mesh: Mesh, params: Params) -> dict[str, str] | None:
  """Return the compiler options of a program that trains a model on a mesh.

  On a CPU, XLA orders a program so that many pieces can be computed side by side, and
  holds more of them at a time; large models are ordered for the least memory. Their
  matrix products keep all cores busy one by one.

  Args:
    mesh: of the devices compiled for.
    params: of the model, arrays or shapes.

  Returns:
    The value of `jax.jit`'s compiler_options; None: the compiler's own choice.
  """
  size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
  if mesh.devices.flat[0].platform != "cpu" or size < LARGE_BYTES:
    return None
  return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
