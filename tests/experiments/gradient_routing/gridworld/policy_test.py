"""Which expert an episode trains (T34), and what is sampled."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gradient_routing.gridworld import environment, policy

ROWS = 9
apply = jax.jit(policy.apply, static_argnames=("gate", "gate_relu"))
value = jax.jit(policy.value)


@pytest.fixture(scope="module")
def params():
  sizes = {"experts": "mixture", "width": 12, "value_widths": (8,)}
  return jax.jit(functools.partial(policy.init, **sizes))(jax.random.key(0))


@pytest.fixture(scope="module")
def observation():
  words = jax.random.bits(jax.random.key(1), (3, ROWS))
  return jax.jit(lambda x: environment.observe(environment.reset(x, 0.5)))(words)


def objective(output):
  """Some function of all logits."""
  return jnp.sum(jnp.sin(output.logits) * jnp.arange(1.0, 5.0))


@jax.jit
def routed_grads(params, observation, label):
  routes = jnp.asarray(policy.ROUTES)[label]

  def loss(params):
    return objective(policy.apply(params, observation, routes=routes))

  return jax.value_and_grad(loss)(params)


def test_the_value_does_not_depend_on_the_route(params, observation):
  values = [routed_grads(params, observation, np.full(ROWS, k))[0] for k in range(3)]
  assert values[0] == values[1] == values[2]
  free = jax.jit(lambda p, x: objective(policy.apply(p, x)))(params, observation)
  np.testing.assert_allclose(values[0], free, rtol=1e-5)


@pytest.mark.parametrize(
  "label, trained",
  [
    (environment.NOTHING, {"diamond", "ghost", "gate", "gate_mix", "output"}),
    (environment.DIAMOND, {"diamond", "output"}),
    (environment.GHOST, {"ghost", "output"}),
  ],
)
def test_an_overseen_goal_trains_its_expert_and_the_output_alone(
  params, observation, label, trained
):
  _, grads = routed_grads(params, observation, np.full(ROWS, label))
  moved = {
    name for name, tree in grads.items() if any(map(np.any, jax.tree.leaves(tree)))
  }
  assert moved == trained


def three_passes(params, observation, label):
  """The paper's form: a pass for each label, with gradients stopped by hand."""
  stop = jax.lax.stop_gradient
  relu, mlp = jax.nn.relu, policy.mlp.apply
  diamond = relu(mlp(params["diamond"], observation))
  ghost = relu(mlp(params["ghost"], observation))
  weight, bias = params["gate_mix"][0]["kernel"], params["gate_mix"][0]["bias"]
  grids = observation.reshape(-1, 4, 25)
  mixed = jnp.einsum("bcp,cd->bdp", grids, weight) + bias[:, None]
  gate = jax.nn.sigmoid(mlp(params["gate"], mixed.reshape(-1, 100)))
  hidden = [
    gate * diamond + (1 - gate) * ghost,
    stop(gate) * diamond + stop((1 - gate) * ghost),
    stop(gate * diamond) + stop(1 - gate) * ghost,
  ]
  logits = jnp.select(
    [label[:, None] == kind for kind in range(3)],
    [mlp(params["output"], x) for x in hidden],
  )
  return objective(policy.Output(logits, gate))


def test_masks_are_the_papers_three_passes(params, observation):
  label = np.arange(ROWS) % 3
  actual_value, grads = routed_grads(params, observation, label)
  by_hand = jax.jit(jax.value_and_grad(three_passes))
  expected_value, expected = by_hand(params, observation, label)
  np.testing.assert_allclose(actual_value, expected_value, rtol=1e-6)
  for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_steered_is_the_gate_at_one(params, observation):
  """T38: the Diamond expert and the output layer, in float64."""

  def relu(x):
    return np.maximum(x, 0)

  hidden = np.float64(observation)
  for layer in params["diamond"]:
    hidden = relu(hidden @ np.float64(layer["kernel"]) + np.float64(layer["bias"]))
  (output,) = params["output"]
  expected = hidden @ np.float64(output["kernel"]) + np.float64(output["bias"])
  steered = apply(params, observation, gate=1.0).logits
  np.testing.assert_allclose(steered, expected, atol=1e-5)
  ones = np.ones((ROWS, 3), np.float32)
  by_gate = apply(params, observation, gate=1.0, routes=ones).logits
  np.testing.assert_allclose(steered, by_gate, atol=1e-6)
  assert np.abs(steered - apply(params, observation).logits).max() > 1e-3


@pytest.mark.parametrize("gate_relu", [False, True])
def test_the_gate_mixes_the_channels_of_each_cell(params, observation, gate_relu):
  """A 1 x 1 convolution and three layers, in float64."""
  (mix,) = params["gate_mix"]
  grids = np.float64(observation).reshape(ROWS, 4, 25)
  hidden = np.einsum("bcp,cd->bdp", grids, np.float64(mix["kernel"])).reshape(ROWS, 100)
  hidden = np.maximum(hidden, 0) if gate_relu else hidden
  for index, layer in enumerate(params["gate"]):
    hidden = hidden @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
    hidden = np.maximum(hidden, 0) if index < 2 else hidden
  output = apply(params, observation, gate_relu=gate_relu)
  np.testing.assert_allclose(output.gate_logit, hidden[:, 0], atol=1e-6)


def test_values_are_not_linear_in_the_observation(params, observation):
  observation = np.asarray(observation)
  whole = np.asarray(value(params, observation))
  assert whole.shape == (ROWS,)
  parts = value(params, observation / 2 + observation[::-1] / 2)
  assert np.abs(parts - whole / 2 - whole[::-1] / 2).max() > 1e-4


def test_actions_come_with_their_probability():
  probabilities = np.array([0.1, 0.0, 0.6, 0.3])
  number = 100_000
  logits = np.log(np.float32(probabilities) + np.float32(1e-30))
  # Evenly spaced words make the counts exact.
  words = (np.arange(number) * (2**32 / number)).astype(np.uint32)
  actions = jax.jit(policy.sample)(np.broadcast_to(logits, (number, 4)), words)
  counts = np.bincount(actions, minlength=4) / number
  np.testing.assert_allclose(counts, probabilities, atol=2e-5)
