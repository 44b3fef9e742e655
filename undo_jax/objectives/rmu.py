"""RMU: steer the hidden states of forget tokens to a random direction."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.objectives.method import Method, Pairs, check_layers
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, SumCount


def steering_error(
  hidden_BxLxD: jax.Array,
  direction_D: jax.Array,
  coefficient: float,
  mask_BxL: jax.Array,
) -> SumCount:
  """Sum the squared distance to coefficient * direction, averaged over D.

  sum_t mask[t] * (1/D) * |h[t] - coefficient * direction|^2

  Args:
    hidden_BxLxD: hidden states [B, L, D].
    direction_D: [D], of unit length.
    coefficient: length of the target.
    mask_BxL: [B, L], 1 where a position counts (pads do not).

  Returns:
    SumCount of float32 scalars.

  Reference: Li et al., The WMDP Benchmark, arXiv 2403.03218, section 4.
  """
  return squared_error(hidden_BxLxD, coefficient * direction_D, mask_BxL)


def random_direction(key: jax.Array, width: int) -> jax.Array:
  """Draw a unit vector [width] uniformly on the sphere, float32."""
  direction_D = jax.random.normal(key, (width,))
  return direction_D / jnp.linalg.norm(direction_D)


def trainable(*, layers: Sequence[int], **options: object) -> Pairs:
  """Return what RMU trains: the layers' down-projections."""
  del options
  return ((r"layers/mlp/down/kernel", tuple(layers)),)


def make(
  apply: Callable,
  *,
  layers: tuple[int, ...],
  coefficient: NotNegative,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
) -> Objective:
  """Return L = forget_weight * steering error + retain_weight * drift on retain.

  The hidden state is the output of the last of `layers` (counted from 0), so
  that every listed layer has a gradient; the drift is the squared distance to
  the same hidden state of frozen["reference"]. frozen["direction"] is [D].
  """
  index = max(layers) + 1  # Hidden state k is the output of layer k - 1.

  def hidden(params, part):
    return apply(params, part["inputs"], capture=(index,)).captured[index]

  def objective(params, frozen, batch, key):
    del key
    forget, retain = batch["forget"], batch["retain"]
    steered = steering_error(
      hidden(params, forget), frozen["direction"], coefficient, forget["mask"]
    )
    reference = jax.lax.stop_gradient(hidden(frozen["reference"], retain))
    drift = squared_error(hidden(params, retain), reference, retain["mask"])
    loss = weighted((forget_weight, steered), (retain_weight, drift))
    return loss, {"forget_steering_error": steered, "retain_drift": drift}

  return objective


def squared_error(
  hidden_BxLxD: jax.Array, target: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sum mask[t] * (1/D) * |h[t] - target[t]|^2; the target broadcasts to h."""
  error = (hidden_BxLxD - target).astype(jnp.float32)
  return masked_sum(jnp.mean(error * error, axis=-1), mask_BxL)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  reads=("retain",),
  frozen=("reference", "direction"),
  derived={"direction": lambda key, model: random_direction(key, model.width)},
  trainable=trainable,
  check=check_layers,
  is_unlearning=True,
  label="RMU",
  color="#56b4e9",
  marker="<",
)
