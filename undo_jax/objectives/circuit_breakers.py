"""Circuit breakers: turn forget states away from where they were, keep the others."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.objectives.method import Method, check_layers
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, SumCount


def rerouting_error(
  hidden_KxBxLxD: jax.Array, before_KxBxLxD: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sum how far hidden states keep their former direction, as a mean over layers.

  sum_t mask[t] * (1/K) * sum_k max(0, cos(h[k, t], h_before[k, t]))

  Args:
    hidden_KxBxLxD: of K layers.
    before_KxBxLxD: likewise, of the model from before; without gradient.
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars; its mean is in [0, 1].
  """
  hidden, before = _float(hidden_KxBxLxD), _float(before_KxBxLxD)
  products = jnp.sum(hidden * before, axis=-1)
  cosines = products / jnp.maximum(_norm(hidden) * _norm(before), 1e-12)
  return masked_sum(jnp.mean(jax.nn.relu(cosines), axis=0), mask_BxL)


def distance(
  hidden_KxBxLxD: jax.Array, before_KxBxLxD: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sum mask[t] * (1/K) * sum_k |h[k, t] - h_before[k, t]|, not squared."""
  lengths = _norm(_float(hidden_KxBxLxD) - _float(before_KxBxLxD))
  return masked_sum(jnp.mean(lengths, axis=0), mask_BxL)


def make(
  apply: Callable, *, layers: tuple[int, ...], strength: NotNegative = 10.0
) -> Objective:
  """Return L = c_forget * rerouting error(forget) + c_retain * distance(retain).

  c_forget = strength * (1 - s / 2),  c_retain = strength * s / 2

  with the share s in [0, 1) of the updates that are done (frozen["progress"]). Hidden
  states are the outputs of `layers`, counted from 0, those before are of
  frozen["reference"]. The authors train LoRA adapters of all kernels up to the last
  of the layers; here `optimizer.trainable` says what is trained.

  Reference: Zou et al., Improving Alignment and Robustness with Circuit Breakers,
  arXiv 2406.04313, algorithm 1.
  """
  indices = tuple(k + 1 for k in layers)  # Hidden state k is the output of layer k - 1.

  def hidden(params, part):
    captured = apply(params, part["inputs"], capture=indices).captured
    return jnp.stack([captured[k] for k in indices])

  def objective(params, frozen, batch, key):
    del key
    forget, retain = batch["forget"], batch["retain"]
    before, kept = (
      jax.lax.stop_gradient(hidden(frozen["reference"], part))
      for part in (forget, retain)
    )
    rerouted = rerouting_error(hidden(params, forget), before, forget["mask"])
    drift = distance(hidden(params, retain), kept, retain["mask"])
    late = 0.5 * frozen["progress"]
    loss = weighted((strength * (1.0 - late), rerouted), (strength * late, drift))
    return loss, {"forget_rerouting_error": rerouted, "retain_distance": drift}

  return objective


def _float(x):
  return x.astype(jnp.float32)


def _norm(x):
  """Return lengths over the last axis, whose gradient at 0 is 0."""
  squares = jnp.sum(x * x, axis=-1)
  is_zero = squares == 0
  return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squares)))


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  reads=("forget", "retain"),
  frozen=("reference",),
  reads_progress=True,
  check=check_layers,
  is_unlearning=True,
  label="circuit breakers",
  color="#355e8d",
  marker="8",
)
