"""The games by their definitions, and their values where these are known."""

import numpy as np
import pytest

from experiments.fictitious_play import matrix_games
from undo_jax.frontier import games
from undo_jax.utils.errors import ConfigError

VALUES = {
  "matching pennies": 0,
  "matching pennies, abstaining pays .05": 0,
  "biased": 0,
  "identity of 3": 1 / 3,
  "identity of 50": 1 / 50,
  "cyclic 7": 0,
  "transitive 7": 0,
}


def test_cyclic_and_transitive_games_are_as_defined():
  n = 5
  one, other = matrix_games.cyclic(n), matrix_games.transitive(n)
  for i in range(n):
    assert one.payoffs[i, i - 1] == 1 and one.payoffs[i - 1, i] == -1
    assert np.abs(one.payoffs).sum() == 2 * n
    if i:
      assert other.payoffs[i, i - 1] / other.unit == pytest.approx((n - i + 2) / n)
  for game in (one, other):
    np.testing.assert_array_equal(game.payoffs, -game.payoffs.T)


@pytest.mark.parametrize("name", VALUES)
def test_values_in_closed_form(name):
  game = matrix_games.NAMED[name]
  got = games.solve(game.payoffs / game.unit)
  assert got.value == pytest.approx(VALUES[name], abs=1e-7)


def test_the_last_move_alone_is_an_equilibrium_of_a_transitive_game():
  payoffs, _ = matrix_games.transitive(7)
  losses = [games.exploitability(payoffs, move, value=0.0) for move in np.eye(7)]
  assert losses[-1] == 0 and min(losses[:-1]) > 0


def test_hundredths_are_exact():
  game = matrix_games.NAMED["starcraft, shares won"]
  assert game.payoffs[0].tolist() == [50, 65, 15] and game.unit == 100


@pytest.mark.parametrize(
  "rows, columns, words",
  [
    ([[1, 2], [3, 4]], [[-1, -2], [-3, 4]], "zero-sum game .* from 0 to 8"),
    ([[1, 2], [3, 4]], [[1, 2, 3]], r"one shape, got \(2, 2\) and \(1, 3\)"),
    ([1, 2], None, "matrix"),
  ],
)
def test_games_that_are_not_zero_sum_end_in_one_line(rows, columns, words):
  with pytest.raises(ConfigError, match=words) as raised:
    matrix_games.zero_sum(rows, columns)
  assert "\n" not in str(raised.value)


def test_shares_won_are_zero_sum_up_to_a_constant():
  game = matrix_games.zero_sum([[0.5, 0.75], [0.25, 0.5]], [[0.5, 0.25], [0.75, 0.5]])
  assert game.payoffs[0, 1] == 0.75
