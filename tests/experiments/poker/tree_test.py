"""Best responses and mixtures on Kuhn poker, against all pure strategies."""

import itertools

import numpy as np
import pytest

from experiments.poker import kuhn, tree
from experiments.poker.tree import CHANCE, FIRST, PLAYERS, SECOND, End, Node
from undo_jax.utils.errors import ConfigError

GAME = kuhn.tree()


def all_pure(player):
  """Return the player's 64 pure strategies."""
  sets = list(tree.information_sets(GAME, player))
  return [
    {
      s: {"p": float(a == "p"), "b": float(a == "b")}
      for s, a in zip(sets, chosen, strict=True)
    }
    for chosen in itertools.product("pb", repeat=len(sets))
  ]


def mixed(player, seed):
  rng = np.random.default_rng(seed)
  bets = {s: rng.random() for s in tree.information_sets(GAME, player)}
  return {s: {"p": 1 - bet, "b": bet} for s, bet in bets.items()}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("player", PLAYERS)
def test_no_pure_strategy_does_better_than_a_best_response(player, seed):
  profile = {each: mixed(each, seed) for each in PLAYERS}
  values = [tree.value(GAME, {**profile, player: one}) for one in all_pure(player)]
  best = tree.best_response(GAME, profile, player)
  got = tree.value(GAME, {**profile, player: best})
  assert got == pytest.approx(max(values) if player == FIRST else min(values))
  assert {p for of in best.values() for p in of.values()} == {0.0, 1.0}


@pytest.mark.parametrize("player", PLAYERS)
def test_a_mixture_is_worth_the_mean_of_what_it_mixes(player):
  strategies = [*all_pure(player)[5:40:11], mixed(player, 3)]
  weights = np.random.default_rng(0).dirichlet(np.ones(len(strategies)))
  together = tree.mixture(GAME, player, strategies, weights.tolist())
  other = SECOND if player == FIRST else FIRST
  for seed in range(3):
    profile = {other: mixed(other, seed)}
    each = [tree.value(GAME, {**profile, player: one}) for one in strategies]
    got = tree.value(GAME, {**profile, player: together})
    assert got == pytest.approx(float(weights @ each), abs=1e-12)


def test_leaves_have_the_value_of_the_tree_and_none_is_impossible():
  profile = {FIRST: all_pure(FIRST)[20], SECOND: mixed(SECOND, 1)}
  leaves = tree.leaves(GAME, profile)
  reach = [np.prod([choice.probability for choice in leaf.path]) for leaf in leaves]
  assert min(reach) > 0 and sum(reach) == pytest.approx(1.0)
  value = sum(p * leaf.utility for p, leaf in zip(reach, leaves, strict=True))
  assert value == pytest.approx(tree.value(GAME, profile))


def test_a_game_that_is_not_zero_sum_ends_in_one_line():
  ends = {"l": End((1.0, -1.0)), "r": End((1.0, 1.0))}
  game = Node(CHANCE, "coin", ends, {"l": 0.5, "r": 0.5})
  with pytest.raises(ConfigError, match=r"zero-sum: .* got \(1.0, 1.0\)") as raised:
    tree.check_zero_sum(game)
  assert "\n" not in str(raised.value)
  tree.check_zero_sum(GAME)
