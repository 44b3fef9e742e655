"""Evaluation in parts, so that the logits of few rows are held at once."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def in_parts(
  fn: Callable[[Mapping[str, Any]], jax.Array],
  arrays: Mapping[str, object],
  rows_at_once: int,
) -> jax.Array:
  """Map `fn` over parts of the leading axis, as equal as possible.

  Args:
    fn: rows of arrays to a value a row, of any shape. Parts may be filled up with rows
      of zeros, whose values are dropped.
    arrays: with the common leading axis P.
    rows_at_once: upper bound of a part's rows.

  Returns:
    The values [P, ...].
  """
  size = jax.tree.leaves(arrays)[0].shape[0]
  num_parts = -(-size // rows_at_once)
  if num_parts == 1:
    return fn(arrays)

  def split(x):  # Strided, so that rows stay on their devices.
    filled = jnp.pad(x, [(0, -size % num_parts)] + [(0, 0)] * (x.ndim - 1))
    return filled.reshape(-1, num_parts, *x.shape[1:]).swapaxes(0, 1)

  values = jax.lax.map(fn, jax.tree.map(split, arrays))
  return values.swapaxes(0, 1).reshape(-1, *values.shape[2:])[:size]
