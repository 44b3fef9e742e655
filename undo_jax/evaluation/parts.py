"""Evaluation in parts, so that the logits of few rows are held at once."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.distributed import placement


def in_parts(
  fn: Callable[[Mapping[str, Any]], jax.Array],
  arrays: Mapping[str, object],
  rows_at_once: int,
) -> jax.Array:
  """Map `fn` over parts of the leading axis, as equal as possible.

  On a mesh the rows of each part are spread over the devices, whatever their number;
  otherwise every device would compute all of them.

  Args:
    fn: rows of arrays to a value a row, of any shape. Parts may be filled up with rows
      of zeros, whose values are dropped.
    arrays: with the common leading axis P.
    rows_at_once: upper bound of a part's rows, but at least one for each device that
      rows are spread over.

  Returns:
    The values [P, ...].
  """
  size = jax.tree.leaves(arrays)[0].shape[0]
  shards = placement.num_shards(placement.ROWS)
  most = max(rows_at_once // shards, 1) * shards
  num_parts = -(-size // most)
  rows = -(-size // (num_parts * shards)) * shards  # Of a part.

  def split(x):
    fill = [(0, num_parts * rows - size)] + [(0, 0)] * (x.ndim - 1)
    parts = jnp.pad(x, fill).reshape(num_parts, rows, *x.shape[1:])
    return placement.constrain(parts, None, placement.ROWS, *(None,) * (x.ndim - 1))

  parts = jax.tree.map(split, arrays)
  if num_parts == 1:
    return fn(jax.tree.map(lambda x: x[0], parts))[:size]
  values = jax.lax.map(fn, parts)
  return values.reshape(-1, *values.shape[2:])[:size]
