"""Checks of what names the parameters of the model."""

import re

from undo_jax import interpolation
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.plan.config import RunConfig
from undo_jax.plan.noise import Noise
from undo_jax.training.optimizers import trainable_rules
from undo_jax.utils import trees
from undo_jax.utils.records import FieldError


def trainable(config: RunConfig, field: str, pairs) -> None:
  """Check pairs of a path regex and layers against the model's parameters."""
  if not pairs:
    return
  shapes = shapes_of(config.model)
  try:
    trees.mask_from_rules(shapes, trainable_rules(pairs))
  except (ValueError, re.error) as error:
    raise FieldError(field, f"paths and layers of the model ({error})", pairs) from None


def noise(config: RunConfig, noise: Noise) -> None:
  """Check the alphas by path and layer against the model's parameters."""
  try:
    interpolation.alphas(shapes_of(config.model), noise.alpha, noise.rules)
  except (ValueError, OverflowError) as error:
    expected = f"paths and layers of the model ({error})"
    raise FieldError("noise.rules", expected, noise.rules) from None
