"""Noise: every matrix is perturbed in proportion to its own size."""

import zlib

import jax
import jax.numpy as jnp

from undo_jax.attacks import edit
from undo_jax.attacks.edit import Edit
from undo_jax.utils import trees
from undo_jax.utils.records import FieldError


def perturbed(matrix: jax.Array, noise: jax.Array, strength: float) -> jax.Array:
  """Return w + strength * rms(w) * noise, the rms that of the matrix."""
  return matrix + strength * jnp.sqrt(jnp.mean(jnp.square(matrix))) * noise


def apply(params, base, strength, key, options):
  """Perturb the matrices by Gaussian noise; the same draw at every strength.

  The noise of a parameter comes from its path's fold of the key; norms and biases stay.
  """
  del base, options

  def draw(path, leaf):
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    return jax.random.normal(own, leaf.shape, leaf.dtype)

  noise = trees.map_with_path(draw, params)
  return edit.over_matrices(
    lambda w, z: perturbed(w, z, strength), params, noise, paths=edit.MATRICES
  )


def check(params, strength, options) -> None:
  """Raise FieldError unless a strength is above 0."""
  del params, options
  if not strength > 0:
    raise FieldError("strengths", "numbers above 0", strength)


EDIT = Edit(
  apply=apply,
  check=check,
  describe=lambda options: (
    "Gaussian noise is added to every matrix, in parts of its RMS"
  ),
  label="weight noise",
  strength="noise, in RMS of the matrix",
  is_random=True,
)
