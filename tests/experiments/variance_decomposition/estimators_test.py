"""Each estimator against the closed form, which elsewhere meets enumeration."""

import numpy as np
import pytest

from experiments.poker import kuhn, tree
from experiments.poker.tree import CHANCE, FIRST, PLAYERS, SECOND
from experiments.variance_decomposition import estimators, sampling
from undo_jax.frontier import extensive_form

FACTORS = (FIRST, SECOND, CHANCE)


@pytest.fixture(scope="module")
def made():
  game = kuhn.tree()
  profile = {player: tree.uniform(game, player) for player in PLAYERS}
  parts = extensive_form.components(tree.leaves(game, profile))
  return sampling.tabulate(game, profile, FACTORS), parts


def near(estimated):
  off = abs(estimated["estimate"] - estimated["exact"])
  return off < 4 * estimated["standard_error"]


def test_pairs_and_new_draws_are_unbiased(made):
  table, parts = made
  rng = np.random.default_rng(0)
  first = estimators.first_order(table, rng, 20_000, parts)
  total = estimators.total(table, rng, 20_000, parts)
  assert list(first) == list(total) == list(FACTORS)
  assert all(map(near, first.values())) and all(map(near, total.values()))
  # And precise enough to tell the factors apart.
  assert total[CHANCE]["standard_error"] < 0.05 * total[CHANCE]["exact"]


def test_crossed_tables_are_unbiased_and_intervals_hold_most_components(made):
  table, parts = made
  rng = np.random.default_rng(1)
  tables = list(estimators.crossed_tables(table, rng, 5, 300))
  got = estimators.crossed(tables, FACTORS, parts)
  assert set(got) == {
    *("chance", "first", "second", "chance x first", "chance x second"),
    *("first x second", "chance x first x second"),
  }
  assert all(map(near, got.values()))
  held = estimators.coverage(tables[:20], FACTORS, parts, 50)
  assert held["chance"]["tables"] == 20
  assert 10 <= held["chance"]["held"] <= 20
