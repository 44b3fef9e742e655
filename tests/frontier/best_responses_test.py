"""One best response an agent: the two-response form, and exact oracles on matrices."""

import jax
import numpy as np
import pytest
from scipy import stats

from undo_jax.frontier import best_responses, games
from undo_jax.utils.errors import ConfigError

GAMES = np.random.default_rng(0).integers(-3, 4, (8, 6, 6))


def eligible(agent, initial_steps):
  """Return whom an agent is trained against, by the paper's published rule."""
  offset = initial_steps % 2
  return [
    i for i in range(agent) if i % 2 == offset or i <= initial_steps or i == agent - 1
  ]


@pytest.mark.parametrize("initial_steps", [0, 1, 2, 3])
def test_who_is_trained_against_whom(initial_steps):
  got = best_responses.schedule(9, num_initial_steps=initial_steps)
  for agent in range(9):
    expected = eligible(agent, initial_steps)
    assert np.flatnonzero(got.eligible_KxK[agent]).tolist() == expected
    is_ephemeral = agent % 2 != initial_steps % 2 and agent > initial_steps
    assert got.ephemeral_K[agent] == is_ephemeral
    # Reported: those before it that are not ephemeral, and itself.
    lasting = [i for i in range(agent) if not got.ephemeral_K[i]]
    assert np.flatnonzero(got.counted_KxK[agent]).tolist() == [*lasting, agent]


def test_of_fictitious_play_all_agents_before():
  got = best_responses.schedule(5, anticipatory=False)
  np.testing.assert_array_equal(got.eligible_KxK, np.tri(5, k=-1, dtype=bool))
  np.testing.assert_array_equal(got.counted_KxK, np.tri(5, dtype=bool))
  assert not got.ephemeral_K.any()


@pytest.mark.parametrize("initial_steps", [0, 1, 2])
def test_the_population_plays_the_form_of_two_responses_step_for_step(initial_steps):
  num_steps = 30
  # Plays after the initial ones take two agents each.
  agents = [*range(initial_steps), *range(initial_steps, 2 * num_steps, 2)][:num_steps]
  population = jax.vmap(
    lambda game: best_responses.population_play(
      game, agents[-1] + 1, num_initial_steps=initial_steps
    )
  )(GAMES)
  pairs = jax.vmap(
    lambda game: games.anticipatory_fictitious_play(
      game, num_steps, num_initial_steps=initial_steps
    )
  )(GAMES)
  for field in ("row_plays_T", "column_averages_TxJ", "lower_T", "upper_T"):
    one = np.asarray(getattr(population, field))[:, agents]
    np.testing.assert_allclose(one, getattr(pairs, field), rtol=1e-6)
  np.testing.assert_array_equal(
    population.best_responses_T[0, np.array(agents)], pairs.best_responses_T[0]
  )


def test_ties_of_agents_are_broken_uniformly_and_apart():
  got = best_responses.population_play(
    np.zeros((3, 3), int), 400, key=jax.random.key(0)
  )
  rows, columns = got.row_plays_T[1:], got.column_plays_T[1:]
  together = stats.contingency.crosstab(rows, columns).count
  assert stats.chisquare(together.ravel()).pvalue > 1e-4


def exact(payoffs):
  """Return a matrix as callables, with best responses of the lowest index."""
  return (
    lambda row, column: payoffs[row, column],
    lambda columns, weights: int((payoffs[:, columns] @ weights).argmax()),
    lambda rows, weights: int((weights @ payoffs[rows]).argmin()),
  )


@pytest.mark.parametrize("mixing", ["fictitious", "anticipatory"])
def test_uniform_mixtures_find_the_agents_of_the_population(mixing):
  payoffs = np.random.default_rng(1).normal(size=(6, 6))
  got = best_responses.oracle_loop(
    *exact(payoffs), (0, 0), num_rounds=20, mixing=mixing
  )
  expected = best_responses.population_play(
    payoffs, 21, anticipatory=mixing == "anticipatory"
  )
  assert got.rows == expected.row_plays_T.tolist()
  assert got.columns == expected.column_plays_T.tolist()
  np.testing.assert_array_equal(got.payoffs_KxK, payoffs[np.ix_(got.rows, got.columns)])
  averages = got.row_strategy_K @ np.eye(6)[got.rows]
  np.testing.assert_allclose(averages, expected.row_averages_TxI[-1], rtol=1e-6)
  value = games.solve(payoffs).value
  assert max(got.lower_by_round) <= value <= min(got.upper_by_round)


def test_the_double_oracle_ends_at_the_value_of_the_whole_game():
  payoffs = np.random.default_rng(2).normal(size=(40, 60))
  got = best_responses.oracle_loop(*exact(payoffs), (0, 0), num_rounds=100)
  value = games.solve(payoffs).value
  assert max(got.lower_by_round) == pytest.approx(value, abs=1e-7)
  assert min(got.upper_by_round) == pytest.approx(value, abs=1e-7)
  assert len(got.lower_by_round) < 40  # Each round costs one response of a side.
  mixture = got.row_strategy_K @ payoffs[got.rows]
  assert mixture.min() == pytest.approx(value, abs=1e-7)


def test_wrong_mixings_and_counts_end_in_one_line():
  with pytest.raises(ConfigError, match="mixing is one of"):
    best_responses.oracle_loop(
      *exact(np.eye(2)),
      (0, 0),
      num_rounds=1,
      mixing="nash",  # pyright: ignore[reportArgumentType]
    )
  with pytest.raises(ConfigError, match="num_agents"):
    best_responses.schedule(0)
