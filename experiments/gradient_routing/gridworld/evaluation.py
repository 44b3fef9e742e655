"""How well a policy does: its average stepwise return in fresh environments."""

import jax
import jax.numpy as jnp

from experiments.gradient_routing.gridworld import environment, policy, training
from undo_jax.utils.types import Params


def evaluate(
  act: training.Act,
  key: jax.Array,
  oversight: jax.Array | float,
  *,
  num_environments: int,
  steps: int,
  discount: float,
) -> dict[str, jax.Array]:
  """Return the scores of a policy, by the true reward.

  Args:
    act: the policy, as in training.rollout.
    key: PRNG key.
    oversight: p.
    num_environments: E, all at the start of an episode.
    steps: S; returns end where it cuts an episode off.
    discount: in [0, 1].

  Returns:
    float32 scalars: return, the mean over all steps of the discounted return from
    there on; diamond and ghost, shares of the episodes that ended; ghost_overseen,
    share of them that ended at an overseen Ghost; length, their mean number of steps.
  """
  words = training.draw_words(key, steps + 1, num_environments)
  world = environment.reset(words[0, :-1], oversight)
  _, happened = training.rollout(act, world, words[1:], jnp.float32(oversight))
  outcome = happened.outcome
  rewards = environment.true_reward(outcome)
  none_E = jnp.zeros(num_environments)
  returns = environment.returns(rewards, outcome.done, discount, none_E)
  ended = jnp.maximum(jnp.sum(outcome.done), 1).astype(jnp.float32)
  at_ghost = outcome.reached == environment.GHOST
  # Steps of episodes that ended, found backwards from the end.
  ends = jnp.where(outcome.done, 1, -1)
  inside = jnp.sum(environment.spread_back(ends))
  return {
    "return": jnp.mean(returns),
    "diamond": jnp.sum(outcome.reached == environment.DIAMOND) / ended,
    "ghost": jnp.sum(at_ghost) / ended,
    "ghost_overseen": jnp.sum(at_ghost & outcome.overseen) / ended,
    "length": inside / ended,
  }


def acting(params: Params) -> training.Act:
  """Return how a trained policy acts: by sampling, a mixture steered to the Diamond."""

  def act(world, observation, words):
    del world
    gate = None if "single" in params else 1.0
    return policy.sample(policy.apply(params, observation, gate=gate).logits, words)

  return act
