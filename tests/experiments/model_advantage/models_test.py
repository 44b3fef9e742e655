"""Losses, advantages and steps within a trust region against float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.model_advantage import models, trust_region
from experiments.model_advantage.models import Losses, Scaling, Steps

RNG = np.random.default_rng(0)
SIZES = {"model": (4, 8, 3), "value": (3, 8, 1)}


def parameters():
  made = models.init(jax.random.key(0), SIZES)
  return jax.tree.map(
    lambda x: jnp.asarray(0.4 * RNG.normal(size=x.shape), jnp.float32), made
  )


def forward(layers, x, activation):
  for index, layer in enumerate(layers):
    x = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
    x = activation(x) if index < len(layers) - 1 else x
  return x


def expected_loss(params, scaled, weights, steps):
  """Written from the formulas."""
  scaled = Scaling(*(np.float64(x) for x in scaled))
  here, after, later, action, next_action = (np.float64(x) for x in steps)

  def predicted(state, action):
    read = (state - scaled.mean_S) / scaled.deviation_S
    inputs = np.column_stack([read, np.clip(action, -1, 1)])
    said = forward(params["model"], inputs, lambda x: np.maximum(x, 0))
    moved = state + scaled.change_mean_S + scaled.change_deviation_S * said
    return np.clip(
      moved,
      scaled.mean_S - 10 * scaled.deviation_S,
      scaled.mean_S + 10 * scaled.deviation_S,
    )

  def value(state):
    read = (state - scaled.mean_S) / scaled.deviation_S
    return forward(params["value"], read, np.tanh)[:, 0]

  first = predicted(here, action)
  second = predicted(first, next_action)
  errors = [
    (((a - b) / scaled.change_deviation_S) ** 2).mean()
    for a, b in ((first, after), (second, later))
  ]
  apart = value(after) - value(first)
  assert apart.min() < 0 < apart.max()
  decay = sum(
    (np.float64(x) ** 2).sum() for layer in params["model"] for x in layer.values()
  )
  return (
    weights.mle * errors[0]
    + weights.two_steps * errors[1]
    + weights.l1 * np.abs(apart).mean()
    + weights.l2 * (apart**2).mean()
    + 1e-5 * decay
  )


@pytest.mark.parametrize(
  "weights",
  [Losses(mle=1.0), Losses(mle=1.0, two_steps=0.5), Losses(l1=0.3), Losses(l2=0.3)],
)
def test_losses_are_as_their_formulas_say(weights):
  params = parameters()
  scaled = Scaling(
    *(jnp.asarray(RNG.uniform(0.5, 2, 3), jnp.float32) for _ in range(4))
  )
  shapes = [(64, 3)] * 3 + [(64,)] * 2
  steps = Steps(*(jnp.asarray(RNG.normal(size=s), jnp.float32) for s in shapes))
  moved = steps.here + scaled.change_mean_S  # About where the model says.
  steps = steps._replace(after=moved + steps.after)
  got = jax.jit(models.loss)(params["model"], params["value"], scaled, weights, steps)
  np.testing.assert_allclose(
    float(got), expected_loss(params, scaled, weights, steps), rtol=2e-5
  )


def test_scaling_is_that_of_the_episodes_seen_and_nothing_without_any():
  observations = RNG.normal(size=(4, 6, 2)).astype(np.float32)
  observations = jnp.asarray(observations)
  got = models.scaling(observations, jnp.array([True, True, False, False]))
  seen = np.asarray(observations[:2], np.float64)
  changes = np.diff(seen, axis=1)
  expected = (
    seen[:, :-1].mean((0, 1)),
    seen[:, :-1].std((0, 1)),
    changes.mean((0, 1)),
    changes.std((0, 1)),
  )
  for one, other in zip(got, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  nothing = models.scaling(observations, jnp.zeros(4, bool))
  for one, other in zip(nothing, (0, 1, 0, 1), strict=True):
    np.testing.assert_array_equal(one, np.full(2, other))


def test_generalized_advantages_are_their_sums():
  rewards, values, last = RNG.normal(size=7), RNG.normal(size=7), RNG.normal()
  discount, mix = 0.9, 0.8
  after = np.append(values[1:], last)
  deltas = rewards + discount * after - values
  expected = [
    sum((discount * mix) ** k * deltas[t + k] for k in range(7 - t)) for t in range(7)
  ]
  got = models.generalized_advantages(
    *(jnp.asarray(x, jnp.float32) for x in (rewards, values, last)), discount, mix
  )
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


step = jax.jit(trust_region.step, static_argnames="region")


def linear_policy(weights, log_deviation):
  layer = {"kernel": jnp.asarray(weights, jnp.float32)[:, None], "bias": jnp.zeros(1)}
  return {"network": [layer], "log_deviation": jnp.asarray(log_deviation, jnp.float32)}


def test_a_step_is_the_natural_gradients_in_closed_form():
  """Of a linear policy: mean = w x + b, with the Fisher matrix of (b, w, log sd)."""
  inputs = RNG.normal(size=(64, 2)).astype(np.float32)
  weights, log_deviation = np.array([0.3, -0.2]), -0.1
  deviation = np.exp(log_deviation)
  actions = inputs @ weights + deviation * RNG.normal(size=64)
  advantages = actions - actions.mean()  # Larger actions are better.
  region = trust_region.Region(max_kl=1e-4, damping=0.1, fisher_every=1)
  policy = linear_policy(weights, log_deviation)
  got = step(
    policy,
    jnp.asarray(inputs),
    jnp.asarray(actions, jnp.float32),
    jnp.asarray(advantages, jnp.float32),
    region=region,
  )
  wide = np.column_stack([inputs, np.ones(64)]).astype(np.float64)  # (w, b)
  apart = (actions - inputs @ weights) / deviation
  slopes = np.column_stack([wide * (apart / deviation)[:, None], apart**2 - 1])
  gradient = (slopes * advantages[:, None]).mean(axis=0)
  fisher = np.zeros((4, 4))
  fisher[:3, :3] = wide.T @ wide / 64 / deviation**2
  fisher[3, 3] = 2.0
  fisher += region.damping * np.eye(4)
  direction = np.linalg.solve(fisher, gradient)
  expected = np.sqrt(2 * region.max_kl / (direction @ fisher @ direction)) * direction
  layer = got["network"][0]
  moved = [*(np.asarray(layer["kernel"])[:, 0] - weights), layer["bias"][0]]
  moved.append(got["log_deviation"] - log_deviation)
  np.testing.assert_allclose(np.float64(moved), expected, rtol=2e-3, atol=2e-6)


def test_divergence_is_that_of_two_normal_distributions():
  """By quadrature of p log(p / q)."""
  grid = np.linspace(-12, 12, 20001)

  def log_density(mean, log_deviation):
    scaled = (grid - mean) / np.exp(log_deviation)
    return -0.5 * scaled**2 - log_deviation - 0.5 * np.log(2 * np.pi)

  old, new = (0.3, 0.2), (-0.5, -0.1)
  p, q = log_density(*old), log_density(*new)
  expected = np.trapezoid(np.exp(p) * (p - q), grid)
  np.testing.assert_allclose(trust_region.divergence(old, new), expected, rtol=1e-5)


def test_no_step_is_taken_where_none_is_better():
  policy = linear_policy([0.3, -0.2], 0.0)
  inputs = jnp.asarray(RNG.normal(size=(8, 2)), jnp.float32)
  got = step(
    policy, inputs, jnp.zeros(8), jnp.zeros(8), region=trust_region.Region(max_kl=0.01)
  )
  assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), policy, got))
