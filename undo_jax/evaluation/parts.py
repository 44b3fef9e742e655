"""Evaluation in parts, so that the logits of few rows are held at once."""

from collections.abc import Callable, Mapping

import jax


def in_parts(
  fn: Callable[[Mapping[str, jax.Array]], jax.Array],
  arrays: Mapping[str, jax.Array],
  rows_at_once: int,
) -> jax.Array:
  """Maps `fn` over parts of the leading axis, as equal as they come.

  Args:
    fn: rows of arrays to one value a row.
    arrays: with the common leading axis P, "inputs" among them.
    rows_at_once: upper bound of a part's rows.

  Returns:
    The values [P].
  """
  size = arrays["inputs"].shape[0]
  num_parts = -(-size // rows_at_once)
  while size % num_parts:
    num_parts += 1
  if num_parts == 1:
    return fn(arrays)
  parts = jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), arrays)
  return jax.lax.map(fn, parts).reshape(size)
