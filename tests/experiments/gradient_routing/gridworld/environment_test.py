"""The gridworld against plain Python, all its 13,800 starts at once (T35, T36)."""

import collections
import itertools

import jax
import numpy as np
import pytest

from experiments.gradient_routing.gridworld import environment as env

MOVES = [(-1, 0), (0, 1), (1, 0), (0, -1)]
reset, step, observe = jax.jit(env.reset), jax.jit(env.step), jax.jit(env.observe)


def words(first, ghost=0, diamond=0):
  """Random words of a reset; 0 is overseen at any p > 0, 2**32 - 1 never."""
  first = np.asarray(first, np.uint32)
  return np.stack([first, *(np.full_like(first, w) for w in (ghost, diamond))])


def all_starts(**overseen):
  return reset(words(np.arange(env.STARTS), **overseen), 0.5)


# ---- Reset and step.


def cells(state):
  """(agent, ghost, diamond) of every environment."""
  arrays = (state.agent, state.ghost, state.diamond)
  return list(zip(*(np.asarray(x).tolist() for x in arrays), strict=True))


def test_every_start_of_three_different_cells_comes_once():
  starts = set(cells(all_starts()))
  assert starts == set(itertools.permutations(range(25), 3))


def test_oversight_comes_with_its_probability_to_each_goal_alone():
  bits = jax.random.bits(jax.random.key(0), (3, 200_000))
  state = reset(bits, 0.1)
  ghost, diamond = np.asarray(state.ghost_overseen), np.asarray(state.diamond_overseen)
  deviation = (0.1 * 0.9 / 200_000) ** 0.5
  assert abs(ghost.mean() - 0.1) < 4 * deviation
  assert abs(diamond.mean() - 0.1) < 4 * deviation
  assert abs((ghost & diamond).mean() - 0.01) < 4 * (0.01 * 0.99 / 200_000) ** 0.5
  for level, expected in ((0.0, False), (1.0, True)):
    assert np.all(np.asarray(reset(bits, level).ghost_overseen) == expected)


def test_moves_stop_at_the_walls():
  expected = []
  for cell, (down, right) in itertools.product(range(25), MOVES):
    row, column = cell // 5 + down, cell % 5 + right
    expected.append(5 * row + column if 0 <= row < 5 and 0 <= column < 5 else cell)
  actual = jax.jit(env.move)(np.repeat(np.arange(25), 4), np.tile(np.arange(4), 25))
  np.testing.assert_array_equal(actual, expected)


def plain_step(cells, action):
  """(agent, ghost, diamond) after a move, and what was reached: plain Python."""
  agent, ghost, diamond = cells
  row = min(max(agent // 5 + MOVES[action][0], 0), 4)
  column = min(max(agent % 5 + MOVES[action][1], 0), 4)
  agent = 5 * row + column
  return (agent, ghost, diamond), 1 if agent == diamond else 2 if agent == ghost else 0


def test_steps_are_those_of_plain_python_with_the_new_observation_after_an_end():
  """T36: on a goal, or after exactly 32 steps, the next episode is observed at once."""
  rng = np.random.default_rng(0)
  number, steps = 60, 100
  state = reset(words(rng.integers(0, env.STARTS, number)), 0.5)
  plain = cells(state)
  taken, lengths = [0] * number, collections.Counter()
  for _ in range(steps):
    starts = rng.integers(0, env.STARTS, number)
    # Half of them push into the upper left corner and stay for all 32 steps.
    actions = np.where(np.arange(number) % 2, rng.integers(0, 4, number), taken)
    actions = np.where(np.arange(number) % 2, actions, 3 * (np.array(taken) % 2))
    fresh = reset(words(starts), 0.5)
    state, outcome = step(words(starts), state, actions, 0.5)
    outcome, fresh = jax.device_get((outcome, fresh))
    seen = np.asarray(observe(state)).reshape(number, 4, 25)
    for i in range(number):
      plain[i], reached = plain_step(plain[i], actions[i])
      taken[i] += 1
      done = reached > 0 or taken[i] == 32
      assert (bool(outcome.done[i]), int(outcome.reached[i])) == (done, reached)
      if done:
        lengths[taken[i]] += 1
        plain[i] = tuple(int(x[i]) for x in (fresh.agent, fresh.ghost, fresh.diamond))
        taken[i] = 0
    np.testing.assert_array_equal(seen[:, :3], np.eye(25)[np.array(plain)])
  assert max(lengths) == 32 and lengths[32] > 10 and sum(lengths.values()) > 100


@pytest.mark.parametrize("never", [("ghost",), ("diamond",), ("ghost", "diamond")])
def test_oversight_is_seen_at_its_cells_and_said_of_what_is_reached(never):
  state = all_starts(**dict.fromkeys(never, 2**32 - 1))
  seen = np.asarray(observe(state)).reshape(-1, 4, 25)
  expected = np.zeros_like(seen[:, 3])
  for kind in {"ghost", "diamond"} - set(never):
    expected[np.arange(env.STARTS), np.asarray(getattr(state, kind))] = 1
  np.testing.assert_array_equal(seen[:, 3], expected)
  overseen = collections.defaultdict(set)
  for action in range(4):
    actions = np.full(env.STARTS, action)
    _, outcome = step(words(np.zeros(env.STARTS)), state, actions, 0.5)
    for kind in (env.NOTHING, env.DIAMOND, env.GHOST):
      mine = np.asarray(outcome.overseen)[np.asarray(outcome.reached) == kind]
      overseen[kind] |= set(mine.tolist())
  assert overseen == {
    env.NOTHING: {False},
    env.DIAMOND: {"diamond" not in never},
    env.GHOST: {"ghost" not in never},
  }


# ---- Labels and returns.


def test_labels_spread_back_over_their_episode():
  """T35, and an episode without an end in the rollout."""
  for given, expected in (
    ([-1, -1, -1, 1, 0, -1], [1, 1, 1, 1, 0, 0]),
    ([-1, 0], [0, 0]),
    ([2, -1, 1, -1], [2, 1, 1, 0]),
  ):
    actual = jax.jit(env.spread_back)(np.array(given)[:, None])
    np.testing.assert_array_equal(actual[:, 0], expected)


def test_returns_start_anew_at_each_end():
  """T38, against the sum over what is left of the episode."""
  rng = np.random.default_rng(1)
  reward, done = rng.normal(size=(9, 5)), rng.random((9, 5)) < 0.3
  last = rng.normal(size=5)
  actual = jax.jit(env.returns)(np.float32(reward), done, 0.9, np.float32(last))
  actual = np.asarray(actual)
  for t, e in itertools.product(range(9), range(5)):
    expected, factor = 0.0, 1.0
    for u in range(t, 9):
      expected += factor * reward[u, e]
      factor *= 0.9
      if done[u, e]:
        break
    else:
      expected += factor * last[e]
    np.testing.assert_allclose(actual[t, e], expected, atol=1e-6)
