"""Populations on Kuhn poker: bounds, and the plain one agent by agent."""

import numpy as np
import pytest

from experiments.fictitious_play import poker_agents
from experiments.poker import equilibrium, kuhn
from experiments.poker import tree as trees
from experiments.poker.tree import FIRST, PLAYERS, SECOND

GAME = kuhn.tree()


def lost(mixing, num_agents=20):
  rng = np.random.default_rng(0)
  return poker_agents.exploitabilities(GAME, mixing, num_agents, rng)


def test_double_oracle_ends_at_the_equilibrium():
  got = lost("equilibrium")
  assert got[0] > 0.1 and got[-1] == pytest.approx(0.0, abs=1e-8) and len(got) == 20


@pytest.mark.parametrize("mixing", ["fictitious", "anticipatory"])
def test_populations_lose_less_and_less_but_never_gain(mixing):
  got = lost(mixing)
  assert min(got) >= 0 and got[-1] < 0.5 * got[1] and len(got) == 20


def test_fictitious_play_is_that_of_averaged_plans():
  """Average by weight of own reach, accumulated play by play."""
  rng = np.random.default_rng(0)
  plays = {p: [poker_agents.random_pure(GAME, p, rng)] for p in PLAYERS}
  expected = []
  for _ in range(6):
    average = {p: averaged(p, plays[p]) for p in PLAYERS}
    upper, lower = (equilibrium.exploited(GAME, average, p) for p in PLAYERS)
    expected.append(upper - lower)
    for player in PLAYERS:
      plays[player].append(trees.best_response(GAME, average, player))
  np.testing.assert_allclose(lost("fictitious", 6), expected, atol=1e-12)


def averaged(player, strategies):
  """Return the behaviour of equal parts: by history, from reaches in closed form."""
  sets = trees.information_sets(GAME, player)
  result = {}
  for card, before in sets:
    # Kuhn's only second decision, "pb", follows the first player's own pass.
    reach = np.array([s[card, ""]["p"] if before == "pb" else 1.0 for s in strategies])
    bets = np.array([s[card, before]["b"] for s in strategies])
    bet = reach @ bets / reach.sum() if reach.sum() else 0.5
    result[card, before] = {"p": 1 - bet, "b": bet}
  return result


def test_random_strategies_are_pure_and_differ():
  drawn = [
    poker_agents.random_pure(GAME, player, np.random.default_rng(seed))
    for player in (FIRST, SECOND)
    for seed in range(2)
  ]
  for strategy in drawn:
    assert all(sorted(of.values()) == [0.0, 1.0] for of in strategy.values())
  assert drawn[0] != drawn[1]
