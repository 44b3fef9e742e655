"""REINFORCE with a value baseline: environments, policy and updates on the device.

An update is a rollout of S steps in E environments and one gradient step on it. The
environments go on where the last rollout left them.

If the rollout cuts an episode off, the value network estimates the rest of its return
(`bootstrap`), and its end is unknown.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from experiments.gradient_routing.gridworld import environment, policy
from experiments.gradient_routing.gridworld.config import Method, Model, Training
from undo_jax.utils.types import Metrics, Params, SumCount

ACTING_WORDS = environment.RESET_WORDS + 1
# (state, observation [E, C], random words [E]) -> actions [E].
Act: TypeAlias = Callable[[environment.State, jax.Array, jax.Array], jax.Array]


class Steps(NamedTuple):
  """What happened in a rollout."""

  observation: jax.Array  # float32 [S, E, C], seen before each action.
  action: jax.Array  # int32 [S, E].
  outcome: environment.Outcome  # Each [S, E].


class State(NamedTuple):
  """The state of one training."""

  params: Params
  opt_state: optax.OptState
  world: environment.State
  oversight: jax.Array  # p, float32 scalar.
  key: jax.Array


def draw_words(key: jax.Array, steps: int, num_environments: int) -> jax.Array:
  """Return all random words of a rollout, uint32 [S, 4, E]."""
  return jax.random.bits(key, (steps, ACTING_WORDS, num_environments))


def rollout(
  act: Act, world: environment.State, words_Sx4xE: jax.Array, oversight: jax.Array
) -> tuple[environment.State, Steps]:
  """Let a policy act for S steps.

  Args:
    act: the policy.
    world: state of the environments.
    words_Sx4xE: of `draw_words`: three for the next episodes, the last for the action.
    oversight: p.

  Returns:
    (state of the environments afterwards, what happened).
  """

  def body(world, words):
    observation = environment.observe(world)
    action = act(world, observation, words[-1])
    after, outcome = environment.step(words[:-1], world, action, oversight)
    return after, Steps(observation, action, outcome)

  return jax.lax.scan(body, world, words_Sx4xE)


def reward(outcome: environment.Outcome, kind: str) -> jax.Array:
  """Return the reward of a method, float32 in the shape of `outcome.done`.

  Args:
    outcome: of the steps.
    kind: reached is 1 for either goal; overseen is the same, but -1 for a Ghost that is
      overseen; true is 1 for the Diamond and -1 for the Ghost.
  """
  if kind == "true":
    return environment.true_reward(outcome)
  any_goal = (outcome.reached != environment.NOTHING).astype(jnp.float32)
  if kind == "reached":
    return any_goal
  caught = (outcome.reached == environment.GHOST) & outcome.overseen
  return any_goal - 2.0 * caught


def labels(outcome: environment.Outcome) -> jax.Array:
  """Return for each step what is known about its episode's end, int32 [S, E].

  It is DIAMOND or GHOST if that was reached within the rollout and is overseen;
  otherwise NOTHING, also for episodes that the rollout cuts off.
  """
  known = jnp.where(outcome.overseen, outcome.reached, environment.NOTHING)
  return environment.spread_back(jnp.where(outcome.done, known, -1))


def kept(outcome: environment.Outcome) -> jax.Array:
  """Return the steps that filtering learns from: 1.0, or 0.0 if the reward is unknown.

  An episode that the rollout cuts off has reached nothing so far, and is kept.
  """
  unknown = (outcome.reached != environment.NOTHING) & ~outcome.overseen
  ends = jnp.where(outcome.done, unknown.astype(jnp.int32), -1)
  return (environment.spread_back(ends) == 0).astype(jnp.float32)


def loss(
  params: Params,
  steps: Steps,
  last_observation: jax.Array,
  method: Method,
  chosen: Training,
) -> tuple[jax.Array, Metrics]:
  """Return the loss of policy, value network and gate, and its parts.

  mean[ k * (-log pi(a|s) * (G - sg V) + w_value * (V - G)^2 - w_entropy * H[pi]) ]
    + w_gate * mean_{labelled} BCE(gate logit, whether its label is DIAMOND)
  with k = 1, or 0 for steps that filtering leaves out (the mean is over all steps).

  Args:
    params: of policy.init.
    steps: of `rollout`.
    last_observation: [E, C], the one after the rollout.
    method: what is trained, and on what.
    chosen: discount, weights, and what counts after a rollout.

  Returns:
    (float32 scalar, its parts before their weights).

  Reference: Cloud et al., arXiv 2410.04332, appendix F.
  """
  outcome, discount = steps.outcome, chosen.discount
  last_E = jax.lax.stop_gradient(policy.value(params, last_observation))
  last_E = last_E if chosen.bootstrap else jnp.zeros_like(last_E)
  rewards = reward(outcome, method.reward)
  goal_SxE = environment.returns(rewards, outcome.done, discount, last_E)
  label_SxE = labels(outcome)
  routes = jnp.asarray(policy.ROUTES)[label_SxE] if method.routed else None
  output = method_output(method, params, steps.observation, routes)
  logp_SxExA = jax.nn.log_softmax(output.logits)
  is_taken = steps.action[..., None] == jnp.arange(environment.ACTIONS)
  taken_SxE = jnp.sum(jnp.where(is_taken, logp_SxExA, 0.0), axis=-1)
  entropy_SxE = -jnp.sum(jnp.exp(logp_SxExA) * logp_SxExA, axis=-1)
  value_SxE = policy.value(params, steps.observation)
  advantage_SxE = goal_SxE - jax.lax.stop_gradient(value_SxE)
  weight_SxE = kept(outcome) if method.filtered else jnp.ones_like(goal_SxE)
  parts = {
    "policy": -taken_SxE * advantage_SxE,
    "value": jnp.square(value_SxE - goal_SxE),
    "entropy": entropy_SxE,
  }
  count = jnp.float32(weight_SxE.size)
  metrics = {
    name: SumCount(jnp.sum(weight_SxE * part), count) for name, part in parts.items()
  }
  metrics["gate"] = gate_error(output.gate_logit, label_SxE)
  factors = {
    "policy": 1.0,
    "value": chosen.value_weight,
    "entropy": -chosen.entropy_weight,
  }
  if method.experts == "mixture" and method.gate is None:
    factors["gate"] = chosen.gate_weight
  return sum(
    (factor * metrics[name].mean() for name, factor in factors.items()),
    start=jnp.float32(0.0),
  ), metrics


def method_output(
  method: Method,
  params: Params,
  observation: jax.Array,
  routes: jax.Array | None = None,
) -> policy.Output:
  """Return the output of the method's policy; see policy.apply."""
  return policy.apply(
    params, observation, routes=routes, gate=method.gate, gate_relu=method.gate_relu
  )


def gate_error(gate_logit: jax.Array, label: jax.Array) -> SumCount:
  """Return the cross-entropy of the gate where the label is DIAMOND or GHOST."""
  is_diamond, is_ghost = (
    label == kind for kind in (environment.DIAMOND, environment.GHOST)
  )
  error = jnp.where(is_diamond, jax.nn.softplus(-gate_logit), 0.0)
  error = error + jnp.where(is_ghost, jax.nn.softplus(gate_logit), 0.0)
  return SumCount(jnp.sum(error), jnp.sum((is_diamond | is_ghost).astype(jnp.float32)))


# MARK: training


# (init key, data key, oversight) -> State.
Init: TypeAlias = Callable[[jax.Array, jax.Array, jax.Array], State]
# (state, number of updates) -> state; the number may be traced.
Updates: TypeAlias = Callable[[State, int | jax.Array], State]


def make_init(
  method: Method,
  model: Model,
  optimizer: optax.GradientTransformation,
  num_environments: int,
) -> Init:
  """Return the program that starts a training."""

  def init(init_key, data_key, oversight):
    params = policy.init(
      init_key,
      experts=method.experts,
      width=model.width,
      value_widths=model.value_widths,
    )
    key, world_key = jax.random.split(data_key)
    words = jax.random.bits(world_key, (environment.RESET_WORDS, num_environments))
    world = environment.reset(words, oversight)
    return State(params, optimizer.init(params), world, oversight, key)

  return init


def make_updates(
  method: Method,
  chosen: Training,
  optimizer: optax.GradientTransformation,
  rollout_steps: int,
) -> Updates:
  """Return the program that trains for some updates."""

  def update(state):
    key, rollout_key = jax.random.split(state.key)

    def act(world, observation, words):
      del world
      output = method_output(method, state.params, observation)
      return policy.sample(output.logits, words)

    words = draw_words(rollout_key, rollout_steps, state.world.agent.shape[0])
    world, steps = rollout(act, state.world, words, state.oversight)
    last = environment.observe(world)
    grads, _ = jax.grad(loss, has_aux=True)(state.params, steps, last, method, chosen)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, opt_state, world, state.oversight, key)

  def updates(state, count):
    return jax.lax.fori_loop(0, count, lambda _, state: update(state), state)

  return updates


def flops_per_update(method: Method, model: Model, environment_steps: int) -> int:
  """Return the multiplications and additions of an update's matrix products.

  Acting takes a forward pass of the policy. The loss takes a forward pass of policy and
  value network, and a backward pass that counts twice, except that the first layers'
  inputs need no gradient. A 1 x 1 convolution counts as such, and not as the larger
  product that computes it.
  """
  cells, channels = environment.CELLS, environment.CHANNELS
  observation, actions = environment.OBSERVATION, environment.ACTIONS
  width = model.width
  body, last = [(observation, width)], [(width, width)]
  if method.experts == "single":
    last += [(width, actions)]
  else:
    body, last = 2 * body, [*last, *last, (width, actions)]
    if method.gate is None:
      body += [(cells * channels, channels)]
      last += [(observation, width), (width, width), (width, 1)]
  policy_first, policy_last = (sum(a * b for a, b in sizes) for sizes in (body, last))
  sizes = (16 * cells, *model.value_widths, 1)
  value_last = sum(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
  value_first = cells * channels * 16
  forward = policy_first + policy_last
  trained = 2 * (policy_first + value_first) + 3 * (policy_last + value_last)
  return 2 * environment_steps * (forward + trained)
