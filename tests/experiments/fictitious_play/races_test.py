"""Races against plays in numpy, and the statistics against published numbers."""

import jax
import numpy as np
import pytest

from experiments.fictitious_play import matrix_games, races


def worst_by_responses(game, num_responses, anticipations, initial_steps):
  """Return worst-case payoffs after each best response, in numpy, without ties."""
  x, y = np.eye(len(game))[0], np.eye(game.shape[1])[0]
  spent, step, worst = 0, 1, [(x @ game).min()]
  while True:
    ahead = anticipations if step > initial_steps else 0
    u, w = game @ y, -(x @ game)
    for _ in range(ahead):
      i, j = np.argmax(u), np.argmax(w)
      u, w = u + game[:, j], w - game[i]
    i, j = np.argmax(u), np.argmax(w)
    x[i] += 1
    y[j] += 1
    spent += 1 + ahead
    step += 1
    if spent > num_responses:
      return np.array(worst + [worst[-1]] * (num_responses + 1 - len(worst)))
    worst += [worst[-1]] * (spent - len(worst)) + [(x @ game).min() / step]


@pytest.mark.parametrize("anticipations, initial", [(0, 0), (1, 3), (2, 1)])
def test_worst_case_payoffs_stand_at_the_responses_that_they_took(
  anticipations, initial
):
  payoffs = matrix_games.gaussian(np.random.default_rng(0), 6, 8)
  got = races.worst_payoffs(
    payoffs,
    jax.random.key(0),
    31,
    num_anticipations=anticipations,
    num_initial_steps=initial,
  )
  for game, row in zip(payoffs.astype(float), got, strict=True):
    expected = worst_by_responses(game, 31, anticipations, initial)
    np.testing.assert_allclose(row, expected, atol=1e-5)


def test_one_game_is_played_with_other_ties_each_time():
  game = matrix_games.cyclic(5)
  got = races.worst_payoffs(
    game.payoffs, jax.random.key(1), 20, num_anticipations=1, count=30
  )
  assert got.shape == (30, 21) and (got[:, 0] == -1).all()
  assert len({tuple(row) for row in got.tolist()}) > 5
  # However many are held together.
  again = races.worst_payoffs(
    np.broadcast_to(game.payoffs, (30, 5, 5)),
    jax.random.key(1),
    20,
    num_anticipations=1,
  )
  np.testing.assert_array_equal(got, again)


def test_ties_count_half():
  one, other = np.array([[1.0, 2], [1, 0]]), np.array([[1.0, 1], [0, 1]])
  np.testing.assert_array_equal(races.share_ahead(one, other), [0.75, 0.5])


def test_agresti_and_coulls_interval():
  """Of 5 in 10 it is (.2366, .7634), of 0 in 20 (0, .1898), as tabulated."""
  low, high = races.agresti_coull(np.array([0.5]), 10)
  assert (low[0], high[0]) == pytest.approx((0.2366, 0.7634), abs=1e-4)
  low, high = races.agresti_coull(np.array([0.0]), 20)
  assert low[0] == 0 and high[0] == pytest.approx(0.1898, abs=2e-4)


def test_since_when_a_share_is_reached_for_good():
  share = np.array([0.2, 0.6, 0.4, 0.7, 0.95])
  since = [races.first_that(lambda s, at=at: s >= at, share) for at in (0.1, 0.5, 1.0)]
  assert since == [0, 3, None]
