"""Model-based control: SLBO's loop, with the model trained by one of several losses.

  repeat: episodes of the policy, with noise, in the real environment
          repeat: model steps on all episodes so far
                  policy steps (TRPO), and with them the value's, in the model alone

With the refit, the value is fitted to the model's own episodes within the model steps
too, so that it is not stale. The reward is known.

A member of a population is a method with a seed: methods differ in numbers alone, so
all of them are one vmapped program. All that is random is drawn outside of it, the same
for each method: a draw inside costs seconds of compilation.

Shapes: E episodes, H steps of one, N episodes at once, S of an observation, I
iterations of R rounds, G model steps between refits of B pairs of steps.
References: Luo et al. (SLBO), arXiv 1807.03858; Modhe et al., arXiv 2106.14080.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.model_advantage import models, trust_region
from experiments.model_advantage.config import Control
from experiments.model_advantage.environments import Environment
from experiments.model_advantage.models import Losses, Scaling
from undo_jax.utils.types import Params


class Method(NamedTuple):
  """What sets a method apart; all traced."""

  losses: Losses = Losses()
  refit: float = 0.0  # 1: the value is refitted within the model steps.
  truth: float = 0.0  # 1: the environment stands for the model.


METHODS = {
  "likelihood": Method(Losses(mle=1.0)),
  "likelihood, two steps (SLBO)": Method(Losses(mle=1.0, two_steps=1.0)),
  "L1": Method(Losses(l1=0.01)),
  "L1, values refitted": Method(Losses(l1=0.01), refit=1.0),
  "L2": Method(Losses(l2=0.01)),
  "L2, values refitted": Method(Losses(l2=0.01), refit=1.0),
  "the environment itself": Method(truth=1.0),
}


class Member(NamedTuple):
  """Of one training."""

  model: Params
  policy: Params
  value: Params
  model_state: optax.OptState
  value_state: optax.OptState
  observations_ExHxS: jax.Array  # H + 1 of each episode.
  actions_ExH: jax.Array


class Draws(NamedTuple):
  """All that is random in a stage; uniform ones are in [-1, 1], pairs in [0, 1)."""

  starts_Nx2: jax.Array  # Uniform.
  noise_Hx2xN: jax.Array  # Normal: of the drift, and of the policy.
  pairs_IxRxGx2xB: jax.Array  # Which episode, and when.
  model_starts_IxRxNx2: jax.Array  # Uniform.
  model_noise_IxRxHxN: jax.Array  # Normal.
  judged_starts_Nx2: jax.Array  # Uniform.


class Measured(NamedTuple):
  """Of one stage, float32 scalars."""

  returned: jax.Array  # Of the mean action in the real environment, mean of episodes.
  squared_error: jax.Array  # Of the model on episodes that it has not seen, normalized.
  value_error: jax.Array  # |V(s') - V(s^)| there.


class Episodes(NamedTuple):
  """Of a policy, a step an index of the first axis."""

  observations: jax.Array  # [H + 1, N, S]
  actions: jax.Array  # [H, N]


def run(
  control: Control, world: Environment, methods: list[Method], seeds: list[list[int]]
) -> Measured:
  """Return what was measured of methods, [stages, methods, seeds], one population.

  Args:
    control: the sizes of everything.
    world: the environment.
    methods: each is trained with every seed.
    seeds: of numpy's generators.
  """
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *methods)
  generators = [np.random.default_rng(seed) for seed in seeds]
  keys = jax.vmap(jax.random.key)(
    np.array([rng.integers(2**31) for rng in generators], np.uint32)
  )
  members = jax.jit(jax.vmap(functools.partial(init, control, world)))(keys)
  members = jax.tree.map(lambda x: jnp.stack([x] * len(methods)), members)
  one = functools.partial(stage, control, world)
  of_seeds = jax.vmap(one, in_axes=(0, None, 0, None))
  advance = jax.jit(jax.vmap(of_seeds, in_axes=(0, 0, None, None)), donate_argnums=0)
  measured = []
  for index in range(control.stages):
    draws = jax.tree.map(
      lambda *x: jnp.stack(x), *(draw(control, rng) for rng in generators)
    )
    members, of_stage = advance(members, stacked, draws, jnp.asarray(index))
    measured.append(of_stage)
  return jax.tree.map(lambda *x: np.stack(x), *measured)


def draw(control: Control, rng: np.random.Generator) -> Draws:
  """Return what is random in a stage of one seed."""
  rounds = _model_rounds(control) + control.policy_steps
  loops, steps = (control.iterations, rounds), control.steps
  real, imagined = control.real_episodes, control.imagined_episodes
  pairs = (*loops, control.refit_every, 2, control.model_batch)

  def uniform(*shape):
    return jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32)

  def normal(*shape):
    return jnp.asarray(rng.standard_normal(shape, np.float32))

  return Draws(
    starts_Nx2=uniform(real, 2),
    noise_Hx2xN=normal(steps, 2, real),
    pairs_IxRxGx2xB=jnp.asarray(rng.random(pairs, np.float32)),
    model_starts_IxRxNx2=uniform(*loops, imagined, 2),
    model_noise_IxRxHxN=normal(*loops, steps, imagined),
    judged_starts_Nx2=uniform(control.judged_episodes, 2),
  )


def init(control: Control, world: Environment, key: jax.Array) -> Member:
  """Return a member before its first stage."""
  made = models.init(
    key,
    {
      "model": (world.size + 1, *control.model_widths, world.size),
      "policy": (world.size, *control.policy_widths, 1),
      "value": (world.size, *control.value_widths, 1),
    },
  )
  episodes, steps = control.stages * control.real_episodes, control.steps
  return Member(
    model=made["model"],
    policy={"network": made["policy"], "log_deviation": jnp.zeros(())},
    value=made["value"],
    model_state=_of_model(control).init(made["model"]),
    value_state=_of_value(control).init(made["value"]),
    observations_ExHxS=jnp.zeros((episodes, steps + 1, world.size)),
    actions_ExH=jnp.zeros((episodes, steps)),
  )


def stage(
  control: Control,
  world: Environment,
  member: Member,
  method: Method,
  draws: Draws,
  index: jax.Array,
) -> tuple[Member, Measured]:
  """Return a member after a stage, and what was measured; vmapped over members."""
  episode_E = jnp.arange(len(member.actions_ExH))
  before, count = index * control.real_episodes, (index + 1) * control.real_episodes
  scaled = models.scaling(member.observations_ExHxS, episode_E < before)
  new = act(world, member.policy, scaled, draws.starts_Nx2, draws.noise_Hx2xN)
  observations, actions = (jnp.moveaxis(each, 0, 1) for each in new)
  learner = _Learner(control, world, method, scaled)
  errors = learner.model_errors(member, observations, actions)
  put = jax.lax.dynamic_update_slice_in_dim
  member = member._replace(
    observations_ExHxS=put(member.observations_ExHxS, observations, before, axis=0),
    actions_ExH=put(member.actions_ExH, actions, before, axis=0),
  )
  scaled = models.scaling(member.observations_ExHxS, episode_E < count)
  learner = learner._replace(scaled=scaled)

  looped = (
    draws.pairs_IxRxGx2xB,
    draws.model_starts_IxRxNx2,
    draws.model_noise_IxRxHxN,
  )
  member, _ = jax.lax.scan(functools.partial(learner.iterate, count), member, looped)
  returned = judge(world, member.policy, scaled, draws.judged_starts_Nx2, control.steps)
  return member, Measured(returned, *errors)


def act(
  world: Environment,
  policy: Params,
  scaled: Scaling,
  starts_Nx2: jax.Array,
  noise_Hx2xN: jax.Array,
) -> Episodes:
  """Return episodes in the environment, with Ornstein-Uhlenbeck noise on actions."""

  def body(carry, noise):
    observations, drift = carry
    drift = 0.85 * drift + 0.3 * noise[0]  # theta .15, sigma .3
    mean, log_deviation = _acting(policy, scaled, observations)
    actions = mean + jnp.exp(log_deviation) * noise[1] + drift
    return (world.step(observations, actions), drift), (observations, actions)

  carry = (world.start(starts_Nx2), jnp.zeros(len(starts_Nx2)))
  (last, _), (before, actions) = jax.lax.scan(body, carry, noise_Hx2xN)
  return Episodes(jnp.concatenate([before, last[None]]), actions)


def judge(
  world: Environment,
  policy: Params,
  scaled: Scaling,
  starts_Nx2: jax.Array,
  num_steps: int,
) -> jax.Array:
  """Return the mean return of the mean action, without discount, in the environment."""

  def body(observations, _):
    actions, _ = _acting(policy, scaled, observations)
    rewards = world.reward(observations, actions)
    return world.step(observations, actions), rewards

  _, rewards_HxN = jax.lax.scan(body, world.start(starts_Nx2), None, num_steps)
  return rewards_HxN.sum(axis=0).mean()


class _Learner(NamedTuple):
  """The loops within a stage."""

  control: Control
  world: Environment
  method: Method
  scaled: Scaling

  def iterate(
    self, count: jax.Array, member: Member, looped: tuple[jax.Array, ...]
  ) -> tuple[Member, None]:
    """Return a member after some rounds of model steps, then some policy steps.

    Each has episodes in the model, to which the value is fitted; the rounds of model
    steps only if it is to be refitted there.
    """
    is_model_R = jnp.arange(len(looped[0])) < _model_rounds(self.control)

    def body(member, at):
      is_model, (pairs_Gx2xB, *of_episodes) = at
      member = jax.lax.cond(
        is_model, lambda: self.train_model(member, count, pairs_Gx2xB), lambda: member
      )
      episodes = self.imagine(member, *of_episodes)
      policy = jax.lax.cond(
        is_model, lambda: member.policy, lambda: self.improve(member, episodes)
      )
      fitted = self.fit_value(member, episodes)
      is_fitted = ~is_model | (self.method.refit > 0)
      fitted = jax.tree.map(
        lambda new, old: jnp.where(is_fitted, new, old),
        (fitted.value, fitted.value_state),
        (member.value, member.value_state),
      )
      return member._replace(
        policy=policy, value=fitted[0], value_state=fitted[1]
      ), None

    return jax.lax.scan(body, member, (is_model_R, looped))[0], None

  def train_model(
    self, member: Member, count: jax.Array, pairs_Gx2xB: jax.Array
  ) -> Member:
    """Return a member after the model steps between two refits."""
    optimizer = _of_model(self.control)
    losses, scale = self.method.losses, self.world.scale  # Values are scaled by it.
    losses = losses._replace(l1=losses.l1 / scale, l2=losses.l2 / scale**2)

    def update(member, pairs_2xB):
      steps = self.seen(member, count, pairs_2xB)
      grads = jax.grad(models.loss)(
        member.model, member.value, self.scaled, losses, steps
      )
      updates, state = optimizer.update(grads, member.model_state)
      model = optax.apply_updates(member.model, updates)
      return member._replace(model=model, model_state=state), None

    return jax.lax.scan(update, member, pairs_Gx2xB)[0]

  def improve(self, member: Member, episodes: Episodes) -> Params:
    """Return the policy after a step of TRPO."""
    advantages = self.advantages(member, episodes)
    normalized = (advantages - advantages.mean()) / (advantages.std() + 1e-6)
    inputs = models.read(self.scaled, episodes.observations[:-1])
    return trust_region.step(
      member.policy,
      inputs.reshape(-1, self.world.size),
      episodes.actions.reshape(-1),
      normalized.reshape(-1),
      trust_region.Region(self.control.max_kl),
    )

  def seen(
    self, member: Member, count: jax.Array, pairs_2xB: jax.Array
  ) -> models.Steps:
    """Return pairs of steps of the first `count` episodes."""
    most_2x1 = jnp.stack([count, jnp.asarray(self.control.steps - 1)])[:, None]
    drawn_2xB = (most_2x1 * pairs_2xB).astype(jnp.int32)
    episode, time = jnp.minimum(drawn_2xB, most_2x1 - 1)  # Rounded up, a draw is 1.
    seen = [member.observations_ExHxS[episode, time + ahead] for ahead in range(3)]
    done = [member.actions_ExH[episode, time + ahead] for ahead in range(2)]
    return models.Steps(*seen, *done)

  def guess(
    self, member: Member, observations: jax.Array, actions: jax.Array
  ) -> jax.Array:
    """Return the next observations by the model, or by what stands for it."""
    guessed = models.predict(member.model, self.scaled, observations, actions)
    real = self.world.step(observations, actions)
    return jnp.where(self.method.truth > 0, real, guessed)

  def imagine(
    self, member: Member, starts_Nx2: jax.Array, noise_HxN: jax.Array
  ) -> Episodes:
    """Return episodes of the policy in the model."""

    def body(observations, noise):
      mean, log_deviation = _acting(member.policy, self.scaled, observations)
      actions = mean + jnp.exp(log_deviation) * noise
      return self.guess(member, observations, actions), (observations, actions)

    last, (before, actions) = jax.lax.scan(
      body, self.world.start(starts_Nx2), noise_HxN
    )
    return Episodes(jnp.concatenate([before, last[None]]), actions)

  def advantages(self, member: Member, episodes: Episodes) -> jax.Array:
    """Return generalized advantages of episodes, [H, N]."""
    values = models.value_of(member.value, self.scaled, episodes.observations)
    rewards = self.world.reward(episodes.observations[:-1], episodes.actions)
    return models.generalized_advantages(
      self.world.scale * rewards,
      values[:-1],
      values[-1],
      self.control.discount,
      self.control.mix,
    )

  def fit_value(self, member: Member, episodes: Episodes) -> Member:
    """Return a member whose value has been fitted to returns of these episodes."""
    optimizer, scaled = _of_value(self.control), self.scaled
    before = episodes.observations[:-1]
    goals = models.value_of(member.value, scaled, before)
    goals += self.advantages(member, episodes)

    def loss(value):
      return jnp.square(models.value_of(value, scaled, before) - goals).mean()

    def update(carry, _):
      value, state = carry
      updates, state = optimizer.update(jax.grad(loss)(value), state)
      return (optax.apply_updates(value, updates), state), None

    carry = (member.value, member.value_state)
    (value, state), _ = jax.lax.scan(update, carry, None, self.control.value_steps)
    return member._replace(value=value, value_state=state)

  def model_errors(
    self, member: Member, observations: jax.Array, actions: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Return squared error and value error on episodes [N, H + 1, S]."""
    before, after = observations[:, :-1], observations[:, 1:]
    guessed = self.guess(member, before, actions)
    squared = jnp.square((guessed - after) / self.scaled.change_deviation_S).mean()
    values = [models.value_of(member.value, self.scaled, s) for s in (after, guessed)]
    return squared, jnp.abs(values[0] - values[1]).mean()


def _model_rounds(control: Control) -> int:
  """Return after how many rounds of model steps the policy's begin."""
  return control.model_steps // control.refit_every


def _acting(policy, scaled, observations):
  """Return mean and log standard deviation of the actions."""
  return trust_region.distribution(policy, models.read(scaled, observations))


def _of_model(control: Control) -> optax.GradientTransformation:
  """Return the optimizer of the model."""
  return optax.chain(optax.clip_by_global_norm(2.0), optax.adam(control.learning_rate))


def _of_value(control: Control) -> optax.GradientTransformation:
  """Return the optimizer of the value."""
  return optax.adam(control.learning_rate)
