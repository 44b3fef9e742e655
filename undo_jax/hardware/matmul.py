"""How fast this machine multiplies matrices, where no datasheet says it."""

import time

import jax
import jax.numpy as jnp


def matmul_flops_per_second(
  dtype: str = "float32", *, size: int = 512, repeats: int = 5
) -> float:
  """Return the FLOPs a second of the fastest of some products of squares.

  2 * size^3 / min(seconds)

  What stands for the peak of a CPU: that of the cores this process may use, not of a
  device, since devices of a CPU share them. What else runs on the machine slows it as
  it slows what it is compared with: measure it at the same time.

  Args:
    dtype: of the matrices; some processors multiply bfloat16 several times as fast.
    size: rows and columns.
    repeats: products that are timed.
  """
  x = jax.device_put(jnp.ones((size, size), dtype), jax.local_devices()[0])
  product = jax.jit(jnp.matmul)
  product(x, x).block_until_ready()  # Compilation.
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    product(x, x).block_until_ready()
    times.append(time.perf_counter() - start)
  return 2 * size**3 / min(times)
