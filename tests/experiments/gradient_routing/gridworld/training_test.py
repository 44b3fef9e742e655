"""Rewards, labels and losses of the methods, against plain Python on real rollouts."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from configs.gradient_routing import gridworld as config_file
from experiments.gradient_routing.gridworld import environment as env
from experiments.gradient_routing.gridworld import policy, scripted, training
from experiments.gradient_routing.gridworld.config import Config, Model
from experiments.shared import typed

STEPS, NUMBER = 12, 40
CONFIG = typed.read(Config, config_file.get_config())
METHODS = CONFIG.methods
TRAINING = dataclasses.replace(
  CONFIG.training, discount=0.9, value_weight=0.5, entropy_weight=0.1, gate_weight=0.01
)


value_and_grad = jax.jit(
  jax.value_and_grad(training.loss, has_aux=True), static_argnums=(3, 4)
)


@functools.cache
def make_params(experts):
  sizes = {"experts": experts, "width": 8, "value_widths": (6,)}
  return jax.jit(functools.partial(policy.init, **sizes))(jax.random.key(2))


@pytest.fixture(scope="module")
def happened():
  """A rollout of the random policy, and what follows it."""

  @jax.jit
  def run(key):
    words = training.draw_words(key, STEPS + 1, NUMBER)
    world = env.reset(words[0, :-1], 0.5)
    act = scripted.nearest  # Ends many episodes, at both goals.
    world, steps = training.rollout(act, world, words[1:], 0.5)
    return steps, env.observe(world)

  return jax.device_get(run(jax.random.key(1)))


def episodes(outcome):
  """Yield (environment, its steps, last step or None if the rollout cut it)."""
  done = np.asarray(outcome.done)
  for e in range(NUMBER):
    start = 0
    for t in np.flatnonzero(done[:, e]):
      yield e, range(start, t + 1), t
      start = t + 1
    if start < STEPS:
      yield e, range(start, STEPS), None


def test_labels_rewards_and_filters_say_what_oversight_allows(happened):
  outcome = happened[0].outcome
  label, kept = training.labels(outcome), training.kept(outcome)
  seen = set()
  for e, steps, end in episodes(outcome):
    reached = int(outcome.reached[end, e]) if end is not None else 0
    overseen = bool(outcome.overseen[end, e]) if end is not None else False
    seen.add((reached, overseen))
    for t in steps:
      assert label[t, e] == (reached if overseen else 0)
      assert kept[t, e] == (reached == 0 or overseen)
    for kind, expected in (
      ("reached", float(reached > 0)),
      ("overseen", {0: 0.0, 1: 1.0, 2: -1.0 if overseen else 1.0}[reached]),
      ("true", {0: 0.0, 1: 1.0, 2: -1.0}[reached]),
    ):
      values = training.reward(outcome, kind)[steps[0] : steps[-1] + 1, e]
      np.testing.assert_array_equal(values, [0.0] * (len(steps) - 1) + [expected])
  assert len(seen) == 5  # Both goals, overseen and not, and what was cut off.


@functools.partial(jax.jit, static_argnums=3)
def outputs(params, observation, last, gate):
  value = policy.value
  output = policy.apply(params, observation, gate=gate)
  return output, value(params, observation), value(params, last)


def expected_loss(params, steps, last, method, weights):
  """The formula, step by step in float64."""
  outcome, total = steps.outcome, {"policy": 0.0, "value": 0.0, "entropy": 0.0}
  output, values, follow = jax.device_get(
    outputs(params, steps.observation, last, method.gate)
  )
  logits, gate, values = map(np.float64, (output.logits, output.gate_logit, values))
  follow = np.float64(follow) * weights.bootstrap
  reward = np.float64(training.reward(outcome, method.reward))
  label, kept = training.labels(outcome), np.asarray(training.kept(outcome))
  gate_errors = []
  for e in range(NUMBER):
    value = follow[e]
    for t in reversed(range(STEPS)):
      value = reward[t, e] + weights.discount * value * (not outcome.done[t, e])
      chances = np.exp(logits[t, e]) / np.exp(logits[t, e]).sum()
      k = kept[t, e] if method.filtered else 1.0
      advantage = value - values[t, e]
      total["policy"] -= k * np.log(chances[steps.action[t, e]]) * advantage
      total["value"] += k * advantage**2
      total["entropy"] -= k * (chances * np.log(chances)).sum()
      if label[t, e]:
        sign = 1 if label[t, e] == env.DIAMOND else -1
        gate_errors.append(np.log1p(np.exp(-sign * gate[t, e])))
  count = STEPS * NUMBER
  value = (total["policy"] + 0.5 * total["value"] - 0.1 * total["entropy"]) / count
  if method.experts == "mixture" and method.gate is None:
    value += weights.gate_weight * np.mean(gate_errors)
  return value


@pytest.mark.parametrize(
  "name, bootstrap",
  [("routing", True), ("routing_without_gate", True), ("filtering", False)],
)
def test_the_loss_is_that_of_the_formula(happened, name, bootstrap):
  method = METHODS[name]
  params, weights = (
    make_params(method.experts),
    dataclasses.replace(TRAINING, bootstrap=bootstrap),
  )
  (value, _), _ = value_and_grad(params, *happened, method, weights)
  expected = expected_loss(params, *happened, method, weights)
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_routing_changes_gradients_and_no_value(happened):
  params = make_params("mixture")
  (value, _), routed = value_and_grad(params, *happened, METHODS["routing"], TRAINING)
  (same, _), free = value_and_grad(
    params, *happened, METHODS["gate_without_routing"], TRAINING
  )
  np.testing.assert_allclose(value, same, rtol=1e-6)
  for name in ("output", "value", "value_mix"):
    pairs = zip(jax.tree.leaves(routed[name]), jax.tree.leaves(free[name]), strict=True)
    for one, other in pairs:
      np.testing.assert_allclose(one, other, atol=1e-6)
  assert np.abs(routed["ghost"][0]["kernel"] - free["ghost"][0]["kernel"]).max() > 1e-4


@pytest.mark.parametrize("name", ["routing", "filtering"])
def test_losses_are_finite_where_nothing_is_overseen_or_kept(happened, name):
  """T37: an empty set has a mean of zero."""
  steps, last = happened
  outcome = steps.outcome._replace(overseen=np.zeros_like(steps.outcome.overseen))
  if name == "filtering":  # Every step ends an episode whose reward is not known.
    outcome = outcome._replace(
      done=np.ones_like(outcome.done), reached=np.full_like(outcome.reached, env.GHOST)
    )
  method = METHODS[name]
  weights = dataclasses.replace(TRAINING, bootstrap=name == "routing")
  (value, metrics), grads = value_and_grad(
    make_params(method.experts), steps._replace(outcome=outcome), last, method, weights
  )
  assert np.isfinite(value)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
  assert metrics["gate"].mean() == 0.0
  if name == "filtering":
    assert value == 0.0


def test_flops_are_those_of_the_matrix_products():
  """Counted by hand for one observation of the paper's networks."""
  method = METHODS["routing"]
  model = Model(width=256, value_widths=(256, 32))
  flops = training.flops_per_update(method, model, environment_steps=1)
  forward = 2 * 100 * 256 + 2 * 256**2 + 16 * 25 + 100 * 256 + 256**2 + 256 + 256 * 4
  first = 2 * 100 * 256 + 16 * 25
  value_first, value_last = 4 * 16 * 25, 400 * 256 + 256 * 32 + 32
  backward = 2 * forward - first + 2 * value_last + value_first
  expected = 2 * (2 * forward + value_first + value_last + backward)
  assert flops == expected
