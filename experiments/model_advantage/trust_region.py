"""A policy of Gaussian actions, and its steps within a trust region (TRPO).

Shapes: B observations. Reference: Schulman et al., arXiv 1502.05477.
"""

from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp

from experiments.model_advantage import models
from undo_jax.utils.types import Params


class Region(NamedTuple):
  """How far a step may go, and how it is found."""

  max_kl: float
  damping: float = 0.1
  iterations: int = 10  # Of conjugate gradients.
  halvings: int = 5  # Of the step, tried until one holds.
  fisher_every: int = 4  # Every so manyth observation is in the Fisher matrix.


def distribution(policy: Params, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Return mean and log standard deviation of actions, both [...]."""
  mean = models.network(policy["network"], inputs)[..., 0]
  return mean, jnp.broadcast_to(policy["log_deviation"], mean.shape)


def log_density(mean: jax.Array, log_deviation: jax.Array, x: jax.Array) -> jax.Array:
  """Return the log density of a normal distribution up to a constant."""
  return -0.5 * jnp.square((x - mean) * jnp.exp(-log_deviation)) - log_deviation


def divergence(
  old: tuple[jax.Array, jax.Array], new: tuple[jax.Array, jax.Array]
) -> jax.Array:
  """Return KL(old || new) of normal distributions, given as mean and log deviation."""
  (old_mean, old_log), (new_mean, new_log) = old, new
  spread = jnp.exp(2 * old_log) + jnp.square(old_mean - new_mean)
  return new_log - old_log + 0.5 * spread * jnp.exp(-2 * new_log) - 0.5


def step(
  policy: Params,
  inputs_BxS: jax.Array,
  actions_B: jax.Array,
  advantages_B: jax.Array,
  region: Region,
) -> Params:
  """Return the policy after a natural gradient step, or as it was if none holds.

  The largest of the steps 1, 1/2, 1/4, ... of sqrt(2 max_kl / x' F x) along x = F^-1 g
  whose divergence is at most 1.5 max_kl and whose surrogate is better.
  """
  flat, unflatten = ravel_pytree(policy)
  old = distribution(policy, inputs_BxS)
  old_B = log_density(*old, actions_B)
  some_FxS = inputs_BxS[:: region.fisher_every]
  old_of_some = distribution(policy, some_FxS)

  def surrogate(flat):
    new_B = log_density(*distribution(unflatten(flat), inputs_BxS), actions_B)
    return jnp.mean(jnp.exp(new_B - old_B) * advantages_B)

  def mean_divergence(flat, old, inputs):
    return divergence(old, distribution(unflatten(flat), inputs)).mean()

  _, along = jax.linearize(lambda flat: distribution(unflatten(flat), some_FxS), flat)
  back = jax.linear_transpose(along, flat)

  def curved(vector):
    mean_F, log_F = along(vector)  # The Fisher matrix of (mean, log deviation):
    mean_F, log_F = mean_F * jnp.exp(-2 * old_of_some[1]), 2 * log_F
    return back((mean_F / len(some_FxS), log_F / len(some_FxS)))[0] + (
      region.damping * vector
    )

  gradient = jax.grad(surrogate)(flat)
  direction = _conjugate_gradients(curved, gradient, region.iterations)
  curvature = jnp.maximum(direction @ curved(direction), 1e-12)
  longest = jnp.sqrt(2 * region.max_kl / curvature)
  shares_H = longest * 0.5 ** jnp.arange(region.halvings)
  tried_HxP = flat + shares_H[:, None] * direction
  better_H = jax.vmap(surrogate)(tried_HxP) > jnp.mean(advantages_B)
  near_H = (
    jax.vmap(lambda flat: mean_divergence(flat, old, inputs_BxS))(tried_HxP)
    <= 1.5 * region.max_kl
  )
  holds_H = better_H & near_H
  return unflatten(jnp.where(holds_H.any(), tried_HxP[jnp.argmax(holds_H)], flat))


def _conjugate_gradients(product, right, iterations: int):
  """Return x with product(x) = right, nearly."""

  def body(carry, _):
    x, residual, direction, norm = carry
    along = product(direction)
    size = norm / jnp.maximum(direction @ along, 1e-12)
    x, residual = x + size * direction, residual - size * along
    new = residual @ residual
    direction = residual + new / jnp.maximum(norm, 1e-12) * direction
    return (x, residual, direction, new), None

  start = (jnp.zeros_like(right), right, right, right @ right)
  return jax.lax.scan(body, start, None, iterations)[0][0]
