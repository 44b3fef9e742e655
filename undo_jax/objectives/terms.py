"""Weighted sums of means: how objectives of several terms are put together."""

import jax.numpy as jnp

from undo_jax.utils.types import SumCount


def weighted(*terms: tuple[float, SumCount]) -> SumCount:
  """Return one SumCount whose mean is sum_k weight_k * term_k.mean().

  Each term keeps its own count, so that every mean is over its own tokens even
  when microbatches or devices hold unequal numbers of them.
  """
  return SumCount(
    jnp.stack([weight * term.sum for weight, term in terms]),
    jnp.stack([term.count for _, term in terms]),
  )
