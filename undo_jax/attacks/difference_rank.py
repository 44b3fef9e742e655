"""Low-rank restoration: undo the largest changes of each matrix since the base."""

import functools

import jax
import jax.numpy as jnp

from undo_jax.attacks import edit
from undo_jax.attacks.attack import WEIGHTS
from undo_jax.attacks.edit import BASE_WEIGHTS, Edit
from undo_jax.utils.records import FieldError


def truncated(matrix: jax.Array, rank: int) -> jax.Array:
  """Return the nearest matrix of a rank, by keeping the largest singular values only.

  sum_{i <= r} s_i u_i v_i',  at a distance of sqrt(sum_{i > r} s_i^2) (Frobenius)

  Reference: Eckart and Young, Psychometrika 1 (1936).
  """
  left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
  left, right = left[:, :rank] * values[:rank], right[:rank]
  return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def apply(params, base, strength, key, options):
  """Add the rank-r part of theta_0 - theta, theta_0 the base's, to each matrix.

  A vector is a matrix of one row, so it becomes the base's.
  """
  del key, options
  fn = functools.partial(truncated, rank=int(strength))
  paths = edit.MATRICES
  back = edit.over_matrices(lambda w, w0: w + fn(w0 - w), params, base, paths=paths)
  return edit.with_matrices(base, edit.matrices(back, paths), paths)


def check(params, strength, options) -> None:
  """Raise FieldError unless a strength is a rank that some matrix has."""
  del options
  shapes = (leaf.shape[-2:] for leaf in edit.matrices(params, edit.MATRICES))
  highest = max(map(min, shapes))
  if strength % 1 or not 1 <= strength <= highest:
    raise FieldError("strengths", f"ranks, whole numbers in [1, {highest}]", strength)


EDIT = Edit(
  apply=apply,
  check=check,
  describe=lambda options: (
    "the part of so low a rank of the difference to the base is added to each matrix, "
    "and vectors are the base's"
  ),
  label="low-rank part of the base",
  strength="rank",
  assumes=(WEIGHTS, BASE_WEIGHTS),
  goes_on=False,  # At the end of the way is the base.
)
