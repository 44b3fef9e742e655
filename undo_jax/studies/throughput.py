"""How fast a program computes, beside how fast this machine multiplies matrices."""

import time

import jax
import jax.numpy as jnp


def matmul_peak(size: int = 1024, repeats: int = 5) -> float:
  """Returns the FLOPs a second of the best of some float32 products of squares.

  What else runs on the machine slows it as it slows what it is compared with: measure
  it at the same time.
  """
  multiply = jax.jit(jnp.matmul)
  x = jnp.ones((size, size))
  jax.block_until_ready(multiply(x, x))  # Compilation.
  best = float("inf")
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(multiply(x, x))
    best = min(best, time.perf_counter() - start)
  return 2 * size**3 / best
