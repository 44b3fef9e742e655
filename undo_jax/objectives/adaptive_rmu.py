"""Adaptive RMU: steering to a random direction, as far as the states are long."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives import rmu
from undo_jax.objectives.method import Method, check_layers
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective


def make(
  apply: Callable,
  *,
  layers: tuple[int, ...],
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  scale: NotNegative = 5.0,
) -> Objective:
  """Return L = forget_weight * steering error + retain_weight * drift on retain.

  It is RMU whose target at each forget token is scale * |h_ref[t]| * direction, with
  the same token's hidden state h_ref of frozen["reference"]. The published code takes
  one length for all: the mean over the first batch of a topic.

  Reference: Huu-Tien et al., On Effects of Steering Latent Representation for Large
  Language Model Unlearning, arXiv 2408.06223.
  """
  index = max(layers) + 1  # Hidden state k is the output of layer k - 1.

  def hidden(params, part):
    return apply(params, part["inputs"], capture=(index,)).captured[index]

  def objective(params, frozen, batch, key):
    del key
    forget, retain = batch["forget"], batch["retain"]
    before, kept = (
      jax.lax.stop_gradient(hidden(frozen["reference"], part))
      for part in (forget, retain)
    )
    lengths = jnp.linalg.norm(before.astype(jnp.float32), axis=-1, keepdims=True)
    target_BxLxD = scale * lengths * frozen["direction"]
    steered = rmu.squared_error(hidden(params, forget), target_BxLxD, forget["mask"])
    drift = rmu.squared_error(hidden(params, retain), kept, retain["mask"])
    loss = weighted((forget_weight, steered), (retain_weight, drift))
    return loss, {"forget_steering_error": steered, "retain_drift": drift}

  return objective


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  reads=("forget", "retain"),
  frozen=("reference", "direction"),
  derived=rmu.METHOD.derived,
  trainable=rmu.trainable,
  check=check_layers,
  is_unlearning=True,
  label="adaptive RMU",
  color="#2f7fb8",
  marker="<",
)
