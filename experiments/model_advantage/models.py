"""Learned models of an environment, values, and the losses that models are trained by.

Value-aware losses are those of a deterministic model, |V(s') - V(s^)| and its square
with s^ = M(s, a), at the value of the moment; nothing else holds such a model to data.

Shapes: S of an observation, T steps. Reference: Modhe et al., arXiv 2106.14080.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.gradient_routing import mlp
from undo_jax.utils.types import Params


class Losses(NamedTuple):
  """Weights of a model's losses; may be traced."""

  mle: jax.Array | float = 0.0  # Squared error of the next observation, normalized.
  two_steps: jax.Array | float = 0.0  # Of the one after it, by the model's own next.
  l1: jax.Array | float = 0.0  # |V(s') - V(s^)|
  l2: jax.Array | float = 0.0  # (V(s') - V(s^))^2


class Scaling(NamedTuple):
  """Means and standard deviations of what the networks read and the model says."""

  mean_S: jax.Array
  deviation_S: jax.Array
  change_mean_S: jax.Array
  change_deviation_S: jax.Array


class Steps(NamedTuple):
  """Pairs of steps that follow each other, [..., S] and [...]."""

  here: jax.Array
  after: jax.Array
  later: jax.Array
  action: jax.Array
  next_action: jax.Array


def init(key: jax.Array, sizes: dict[str, Sequence[int]]) -> dict[str, Params]:
  """Return networks by name, the last layer of each a hundredth of its usual size."""
  networks = {n: mlp.Network(tuple(s), zero_biases=True) for n, s in sizes.items()}
  params = mlp.init(key, networks)
  for layers in params.values():
    layers[-1]["kernel"] = 0.01 * layers[-1]["kernel"]
  return params


def network(
  layers: Sequence[Params], x: jax.Array, activation: Callable = jnp.tanh
) -> jax.Array:
  """Return the output of a network, [..., inputs] -> [..., outputs]."""
  for layer in layers[:-1]:
    x = activation(x @ layer["kernel"] + layer["bias"])
  return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def scaling(observations: jax.Array, seen: jax.Array) -> Scaling:
  """Return the scaling by the episodes seen; where there are none, nothing is scaled.

  Args:
    observations: [episodes, steps + 1, S].
    seen: bool [episodes].
  """
  moments = []
  for each, least in (
    (observations[:, :-1], 1e-3),
    (jnp.diff(observations, axis=1), 1e-4),
  ):
    where = jnp.broadcast_to(seen[:, None, None], each.shape)
    deviation = jnp.maximum(each.std((0, 1), where=where), least)
    moments += [each.mean((0, 1), where=where), deviation]
  zeros, ones = jnp.zeros(observations.shape[-1]), jnp.ones(observations.shape[-1])
  nothing = Scaling(zeros, ones, zeros, ones)
  return jax.tree.map(
    lambda some, none: jnp.where(seen.any(), some, none), Scaling(*moments), nothing
  )


def read(scaled: Scaling, observations: jax.Array) -> jax.Array:
  """Return observations as the networks read them."""
  return (observations - scaled.mean_S) / scaled.deviation_S


def predict(
  model: Params, scaled: Scaling, observations: jax.Array, actions: jax.Array
) -> jax.Array:
  """Return the model's next observations, within 10 deviations of those seen."""
  clipped = jnp.clip(actions, -1.0, 1.0)[..., None]
  inputs = jnp.concatenate([read(scaled, observations), clipped], axis=-1)
  changes = network(model, inputs, jax.nn.relu)
  after = observations + scaled.change_mean_S + scaled.change_deviation_S * changes
  reach_S = 10 * scaled.deviation_S
  return jnp.clip(after, scaled.mean_S - reach_S, scaled.mean_S + reach_S)


def value_of(value: Params, scaled: Scaling, observations: jax.Array) -> jax.Array:
  """Return the values of observations, [..., S] -> [...]."""
  return network(value, read(scaled, observations))[..., 0]


def loss(
  model: Params, value: Params, scaled: Scaling, weights: Losses, steps: Steps
) -> jax.Array:
  """Return the weighted losses of a model, and 1e-5 times its squared weights.

  No gradient flows into the value.
  """
  guessed = predict(model, scaled, steps.here, steps.action)
  further = predict(model, scaled, guessed, steps.next_action)

  def error(guess, real):
    return jnp.square((guess - real) / scaled.change_deviation_S).mean()

  apart = value_of(value, scaled, steps.after) - value_of(value, scaled, guessed)
  size = sum(jnp.square(each).sum() for each in jax.tree.leaves(model))
  return (
    weights.mle * error(guessed, steps.after)
    + weights.two_steps * error(further, steps.later)
    + weights.l1 * jnp.abs(apart).mean()
    + weights.l2 * jnp.square(apart).mean()
    + 1e-5 * size
  )


def generalized_advantages(
  rewards_T: jax.Array,
  values_T: jax.Array,
  last: jax.Array,
  discount: float,
  mix: float,
) -> jax.Array:
  """Return A_t = sum_k (discount * mix)^k * delta_{t+k} along the first axis.

  delta_t = r_t + discount * V_{t+1} - V_t; the last value stands for the rest.

  Reference: Schulman et al., arXiv 1506.02438.
  """
  later_T = jnp.concatenate([values_T[1:], last[None]])
  deltas_T = rewards_T + discount * later_T - values_T

  def back(ahead, delta):
    ahead = delta + discount * mix * ahead
    return ahead, ahead

  return jax.lax.scan(back, jnp.zeros_like(last), deltas_T, reverse=True)[1]
