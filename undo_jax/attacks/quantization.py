"""Quantization: round weights to few bits and compute with the rounded values."""

import functools

import jax
import jax.numpy as jnp

from undo_jax.attacks import edit
from undo_jax.attacks.edit import Edit
from undo_jax.utils import records
from undo_jax.utils.records import FieldError


@records.record
class Options:
  """Which weights share a scale."""

  # Inputs of an output channel; None: all of them.
  group_size: int | None = None

  def __post_init__(self):
    records.at_least(self, "group_size", smallest=1)


def round_to_nearest(
  matrix: jax.Array, bits: int, group_size: int | None = None
) -> jax.Array:
  """Round a matrix to the nearest multiples of its groups' scales.

  Q(w) = s round(w / s),  s = max|w| / (2^(bits - 1) - 1)  over a group

  So |w - Q(w)| <= s / 2, Q(Q(w)) = Q(w) and Q(c w) = c Q(w), up to rounding.

  Args:
    matrix: [in, out].
    bits: of a weight, at least 2.
    group_size: how many inputs of an output share a scale, a divisor of their number;
      None: all.

  Reference: round-to-nearest, symmetric, by the largest magnitude, as the baseline of
  Frantar et al., GPTQ, arXiv 2210.17323.
  """
  fan_in, fan_out = matrix.shape
  groups = matrix.reshape(-1, group_size or fan_in, fan_out)
  scale = jnp.max(jnp.abs(groups), axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
  codes = jnp.round(groups / jnp.where(scale > 0, scale, 1.0))
  return (scale * codes).reshape(matrix.shape)


def apply(params, base, strength, key, options: Options):
  """Round the layers' matrices; embedding, norms and biases stay."""
  del base, key
  bits, group_size = int(strength), options.group_size
  fn = functools.partial(round_to_nearest, bits=bits, group_size=group_size)
  return edit.over_matrices(fn, params)


def check(params, strength, options: Options) -> None:
  """Raise FieldError unless a strength is a number of bits, and groups divide."""
  if strength % 1 or not 2 <= strength <= 16:
    raise FieldError("strengths", "bits, whole numbers in [2, 16]", strength)
  inputs = sorted({leaf.shape[-2] for leaf in edit.matrices(params)})
  size = options.group_size
  if size is not None and any(number % size for number in inputs):
    counts = ", ".join(map(str, inputs))
    expected = f"None or a divisor of the inputs of all matrices ({counts})"
    raise FieldError("options.group_size", expected, size)


def describe(options: Options) -> str:
  """Return what is rounded, and what shares a scale."""
  size = options.group_size
  each = "output channel" if size is None else f"{size} inputs of one"
  return f"the layers' matrices are rounded to so many bits, a scale for each {each}"


EDIT = Edit(
  apply=apply,
  check=check,
  describe=describe,
  label="quantization",
  strength="bits",
  options=Options,
  goes_on=False,
)
