"""Games between pure strategies, against trees and the closed form."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.poker import kuhn, leduc, tree
from experiments.poker.tree import CHANCE, FIRST, PLAYERS, SECOND
from experiments.variance_decomposition import sampling
from undo_jax.frontier import extensive_form, variance

FACTORS = (FIRST, SECOND, CHANCE)
PROFILE = {
  player: {
    s: {"p": 0.3 + 0.05 * i, "b": 0.7 - 0.05 * i}
    for i, s in enumerate(tree.information_sets(kuhn.tree(), player))
  }
  for player in PLAYERS
}


def test_all_pure_strategies_have_the_variances_of_the_closed_form():
  game = kuhn.tree()
  table = sampling.tabulate(game, PROFILE, FACTORS)
  every = np.array(list(itertools.product((0, 1), repeat=6)))
  strategies = {FIRST: every, SECOND: every, CHANCE: np.arange(6)[:, None]}
  utilities = sampling.crossed(table, strategies)
  probabilities = []
  for player in PLAYERS:
    one_SxA = np.diff(table.cumulative[player], prepend=0, axis=1)
    probabilities.append(one_SxA[np.arange(6), every].prod(axis=1))
  weights = np.einsum("i,j,k->ijk", *probabilities, np.full(6, 1 / 6))
  mean = (weights * utilities).sum()
  assert mean == pytest.approx(tree.value(game, PROFILE))
  leaves = tree.leaves(game, PROFILE)
  for group in variance.subsets(FACTORS):
    others = tuple(i for i, name in enumerate(FACTORS) if name not in group)
    mass = weights.sum(axis=others)
    given = (weights * utilities).sum(axis=others) / mass
    expected = (mass * given**2).sum() - mean**2
    got = extensive_form.explained(leaves, group)
    assert got == pytest.approx(expected, abs=1e-12)


def test_drawn_actions_are_as_likely_as_the_strategy_says():
  profile = {player: tree.uniform(leduc.tree(), player) for player in PLAYERS}
  table = sampling.tabulate(leduc.tree(), profile, FACTORS)
  rng = np.random.default_rng(0)
  deals = sampling.draw(table, CHANCE, rng, 12_000)[:, 0]
  expected = np.diff(table.cumulative[CHANCE][0], prepend=0) * 12_000
  assert stats.chisquare(np.bincount(deals, minlength=24), expected).pvalue > 1e-3
  actions = sampling.draw(table, FIRST, rng, 200)
  counts = {len(a) for a in tree.information_sets(leduc.tree(), FIRST).values()}
  assert counts == {2, 3} and actions.max() == 2
  two = [len(a) == 2 for a in tree.information_sets(leduc.tree(), FIRST).values()]
  assert actions[:, two].max() == 1


def test_leducs_sampled_outcomes_have_the_trees_mean():
  profile = {player: tree.uniform(leduc.tree(), player) for player in PLAYERS}
  table = sampling.tabulate(leduc.tree(), profile, FACTORS)
  rng = np.random.default_rng(1)
  drawn = {name: sampling.draw(table, name, rng, 20_000) for name in FACTORS}
  outcomes = sampling.play(table, drawn, [np.arange(20_000)] * 3)
  error = outcomes.std() / len(outcomes) ** 0.5
  assert abs(outcomes.mean() - tree.value(leduc.tree(), profile)) < 4 * error
  whole = extensive_form.explained(tree.leaves(leduc.tree(), profile), FACTORS)
  assert outcomes.var() == pytest.approx(whole, rel=0.1)
