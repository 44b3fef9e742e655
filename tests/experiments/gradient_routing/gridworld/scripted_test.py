"""Scripted policies against plain Python, exactly, over all 13,800 starts (T38)."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradient_routing.gridworld import environment as env
from experiments.gradient_routing.gridworld import scripted, training

DISCOUNT = 0.97
MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]


def all_starts(ghost=0, diamond=0):
  """Every start; 0 is overseen at any p > 0, 2**32 - 1 never."""
  words = [np.arange(env.STARTS), np.full(env.STARTS, ghost)]
  words.append(np.full(env.STARTS, diamond))
  return jax.jit(env.reset)(np.stack(words).astype(np.uint32), 0.5)


def cells(state):
  """(agent, ghost, diamond) of every environment."""
  arrays = (state.agent, state.ghost, state.diamond)
  return list(zip(*(np.asarray(x).tolist() for x in arrays), strict=True))


def plain_step(cells, action):
  """(agent, ghost, diamond) after a move, and what was reached: plain Python."""
  agent, ghost, diamond = cells
  row = min(max(agent // 5 + MOVES[action][0], 0), 4)
  column = min(max(agent % 5 + MOVES[action][1], 0), 4)
  agent = 5 * row + column
  return (agent, ghost, diamond), 1 if agent == diamond else 2 if agent == ghost else 0


# The cell after each move from each cell, [25, 4].
AFTER = np.array(
  [
    [plain_step((cell, -1, -1), action)[0][0] for action in range(4)]
    for cell in range(25)
  ]
)


def first_episode(policy, steps=32):
  """Discounted true reward of the first episode from every start, [13800]."""
  shape = (steps, training.ACTING_WORDS, env.STARTS)
  drawn = np.random.default_rng(3).integers(2**32, size=shape, dtype=np.uint32)

  @jax.jit
  def run(world, words):  # What was seen, 180 MB, is left out.
    return training.rollout(policy, world, words, 0.5)[1].outcome

  outcome = run(all_starts(ghost=2**32 - 1, diamond=2**32 - 1), drawn)
  returns = jax.jit(
    lambda o: env.returns(env.true_reward(o), o.done, DISCOUNT, jnp.zeros(env.STARTS))
  )
  values, done = returns(outcome), np.asarray(outcome.done)
  return np.asarray(values)[0], np.argmax(done, axis=0) + 1


def exact(distribution):
  """Expected return from every start, by value iteration over the cells.

  distribution(agents, ghost, diamond) -> probabilities of the four moves [A, 4].
  """
  values = np.zeros((25, 25, 25))
  agents = np.arange(25)
  for ghost, diamond in itertools.permutations(range(25), 2):
    chances = distribution(agents, ghost, diamond)
    chances = np.where(np.isin(agents, (ghost, diamond))[:, None], 0, chances)
    reward = 1.0 * (AFTER == diamond) - (AFTER == ghost)
    direct = (chances * reward).sum(1)
    going_on = DISCOUNT * chances * (reward == 0)
    matrix = (going_on[:, :, None] * np.eye(25)[AFTER]).sum(1)
    value = np.zeros(25)
    for _ in range(32):  # The episode's steps.
      value = direct + matrix @ value
    values[:, ghost, diamond] = value
  return values[tuple(np.transpose(starts()))]


@functools.cache
def starts():
  return cells(all_starts())


def shortest(agent, ghost, diamond):
  """All moves that shorten the way to the Diamond, whatever is on it."""
  down, right = diamond // 5 - agent // 5, diamond % 5 - agent % 5
  moves = np.stack([down < 0, right > 0, down > 0, right < 0], axis=-1)
  return moves / np.maximum(moves.sum(-1, keepdims=True), 1)  # 0 on the Diamond.


def test_the_blind_policy_returns_what_value_iteration_says():
  """Its coin is thrown anew from every start: the mean over them has little noise."""
  values, _ = first_episode(scripted.blind)
  expected = exact(shortest)
  assert abs(values.mean() - expected.mean()) < 4 * values.std() / env.STARTS**0.5
  # Exact where there is one way only, in a row or a column.
  sure = shortest(*np.transpose(starts())).max(axis=-1) == 1
  np.testing.assert_allclose(values[sure], expected[sure], atol=1e-6)


def test_the_random_policy_returns_what_value_iteration_says():
  values, _ = first_episode(scripted.random)
  expected = exact(lambda *cells: np.full((25, 4), 0.25))
  assert abs(expected.mean()) < 1e-9  # As often a Diamond as a Ghost.
  # One walk from each start; by tenths of them, from the worst to the best.
  for tenth in np.array_split(np.argsort(expected), 10):
    error = values[tenth].mean() - expected[tenth].mean()
    assert abs(error) < 4 * values[tenth].std() / len(tenth) ** 0.5


def distances(goal, avoided):
  """Length of a shortest way to the goal from every cell, by relaxation."""
  steps = np.full(25, 99)
  steps[goal] = 0
  for _ in range(25):
    for cell in set(range(25)) - {avoided}:
      ways = [steps[way] + 1 for way in AFTER[cell] if way != avoided]
      steps[cell] = min(steps[cell], *ways)
  return steps


def test_the_optimal_policy_walks_around_the_ghost():
  values, length = first_episode(scripted.optimal)
  for index in range(0, env.STARTS, 111):
    agent, ghost, diamond = starts()[index]
    steps = distances(diamond, ghost)[agent]
    assert length[index] == steps
    np.testing.assert_allclose(values[index], DISCOUNT ** (steps - 1), rtol=1e-5)


def test_nearest_goes_to_either_and_unseen_avoids_a_ghost_that_is_overseen():
  bits = np.random.default_rng(4).integers(2**32, size=env.STARTS, dtype=np.uint32)
  world = all_starts(ghost=2**32 - 1)
  nearest, unseen, optimal = (
    jax.jit(policy) for policy in (scripted.nearest, scripted.unseen, scripted.optimal)
  )
  action = np.asarray(nearest(world, None, bits))
  tied = {kind: 0 for kind in ("ghost", "diamond")}
  empty = [distances(goal, -1) for goal in range(25)]  # Without anything in the way.
  for (agent, ghost, diamond), move in zip(starts(), action, strict=True):
    (after, _, _), _ = plain_step((agent, ghost, diamond), move)
    to_ghost, to_diamond = empty[ghost][agent], empty[diamond][agent]
    nearer = {
      "ghost": to_ghost <= to_diamond and empty[ghost][after] < to_ghost,
      "diamond": to_diamond <= to_ghost and empty[diamond][after] < to_diamond,
    }
    assert any(nearer.values())
    if to_ghost == to_diamond and sum(nearer.values()) == 1:
      tied["ghost" if nearer["ghost"] else "diamond"] += 1
  assert abs(tied["ghost"] - tied["diamond"]) < 4 * sum(tied.values()) ** 0.5
  np.testing.assert_array_equal(unseen(world, None, bits), action)
  around = optimal(world, None, bits)
  overseen = unseen(all_starts(), None, bits)
  np.testing.assert_array_equal(overseen, around)
  assert (np.asarray(around) != action).any()
