"""Interpolation: the model is moved back toward the one from before unlearning."""

import jax

from undo_jax.attacks.attack import WEIGHTS
from undo_jax.attacks.edit import BASE_WEIGHTS, Edit
from undo_jax.utils.records import FieldError


def apply(params, base, strength, key, options):
  """Interpolate all weights: (1 - t) theta + t theta_0, theta_0 the base's.

  Reference: linear mode connectivity, Frankle et al., arXiv 1912.05671.
  """
  del key, options
  return jax.tree.map(lambda w, w0: (1.0 - strength) * w + strength * w0, params, base)


def check(params, strength, options) -> None:
  """Raise FieldError unless a strength lies between the model and the base."""
  del params, options
  if not 0 < strength < 1:
    raise FieldError("strengths", "numbers in (0, 1)", strength)


EDIT = Edit(
  apply=apply,
  check=check,
  describe=lambda options: "all weights are moved a part of the way back to the base's",
  label="interpolation to the base",
  strength="part of the way",
  assumes=(WEIGHTS, BASE_WEIGHTS),
  goes_on=False,  # At the end of the way is the base.
)
