"""Pruning: the weights of smallest magnitude are set to zero."""

import functools
from typing import Literal

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp

from undo_jax.attacks import edit
from undo_jax.attacks.edit import Edit
from undo_jax.utils import records
from undo_jax.utils.records import FieldError


@records.record
class Options:
  """The weights among which the smallest are chosen."""

  # Of each matrix its own share, or of all the layers' matrices together.
  scope: Literal["matrix", "all"] = "matrix"


def without_smallest(weights: jax.Array, share: float) -> jax.Array:
  """Set the weights of smallest magnitude to zero; of equal ones the first.

  round(share * n) of n weights; share = 0 is the identity

  Args:
    weights: an array of any shape.
    share: in [0, 1), a Python number.

  Reference: Han et al., Learning both weights and connections, arXiv 1506.02626.
  """
  flat = jnp.ravel(weights)
  order = jnp.argsort(jnp.abs(flat), stable=True)
  pruned = flat.at[order[: round(share * flat.size)]].set(0.0)
  return pruned.reshape(weights.shape)


def apply(params, base, strength, key, options: Options):
  """Prune the layers' matrices; embedding, norms and biases stay."""
  del base, key
  if options.scope == "matrix":
    fn = functools.partial(without_smallest, share=strength)
    return edit.over_matrices(fn, params)
  together, apart = ravel_pytree(edit.matrices(params))
  return edit.with_matrices(params, apart(without_smallest(together, strength)))


def check(params, strength, options) -> None:
  """Raise FieldError unless a strength is a share of the weights."""
  del params, options
  if not 0 <= strength < 1:
    raise FieldError("strengths", "shares in [0, 1)", strength)


def describe(options: Options) -> str:
  """Return what is pruned."""
  among = "each matrix" if options.scope == "matrix" else "all matrices together"
  return f"the smallest weights of {among} are set to zero, in every layer"


EDIT = Edit(
  apply=apply,
  check=check,
  describe=describe,
  label="pruning",
  strength="share of the weights",
  options=Options,
)
