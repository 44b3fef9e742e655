"""Equilibria by linear programs: known values, certificates, matrix games."""

import numpy as np
import pytest

from experiments.poker import equilibrium, kuhn, leduc
from experiments.poker.tree import CHANCE, FIRST, SECOND, End, Node
from undo_jax.utils.errors import ConfigError


def matrix_game(payoffs):
  """Return a game in which both choose at once, as a tree."""
  rows = {
    i: Node(
      SECOND, "column", {j: End((float(p), -float(p))) for j, p in enumerate(row)}
    )
    for i, row in enumerate(payoffs)
  }
  return Node(FIRST, "row", rows)


@pytest.mark.parametrize("fresh", [False, True])
def test_kuhns_value_is_minus_an_eighteenth(fresh):
  got = equilibrium.solve(kuhn.tree(fresh=fresh))
  assert got.lower == pytest.approx(-1 / 18, abs=1e-9)
  assert got.upper == pytest.approx(-1 / 18, abs=1e-9)


def test_leducs_value_is_the_published_one():
  got = equilibrium.solve(leduc.tree())
  assert got.lower == pytest.approx(-0.0856064, abs=1e-6)
  assert got.upper == pytest.approx(got.lower, abs=1e-7)


def test_a_matrix_game_has_its_closed_form():
  """[[3, -1], [-2, 1]]: 1/7, by (3/7, 4/7) and (2/7, 5/7)."""
  got = equilibrium.solve(matrix_game([[3, -1], [-2, 1]]))
  assert got.lower == pytest.approx(1 / 7)
  np.testing.assert_allclose(list(got.profile[FIRST]["row"].values()), [3 / 7, 4 / 7])
  np.testing.assert_allclose(
    list(got.profile[SECOND]["column"].values()), [2 / 7, 5 / 7]
  )


def test_games_without_memory_or_zero_sum_are_refused():
  inner = Node(FIRST, "same", {"l": End((0.0, 0.0)), "r": End((1.0, -1.0))})
  with pytest.raises(ValueError, match="first forgets"):
    equilibrium.solve(Node(FIRST, "start", {"l": inner, "r": inner}))
  coin = Node(CHANCE, "coin", {"l": End((1.0, 2.0))}, {"l": 1.0})
  with pytest.raises(ConfigError, match="zero-sum"):
    equilibrium.solve(coin)
