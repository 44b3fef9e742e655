"""Kuhn poker: the closed form against all pure strategies, and what is known of it."""

import itertools

import numpy as np
import pytest
from scipy import stats

from undo_jax.frontier import extensive_form, variance
from undo_jax.frontier.extensive_form import Choice, Leaf
from undo_jax.utils.errors import ConfigError

FACTORS = ("first", "second", "chance")
DEALS = tuple(itertools.permutations((0, 1, 2), 2))  # J, Q, K.
# Player and what was done before, of each action on the way; then the stake.
ENDS = {
  "pp": 1,
  "pbp": None,
  "pbb": 2,
  "bp": None,
  "bb": 2,
}
# Probability of the bet by card, after what was done: a Nash equilibrium.
NASH = {
  "": (1 / 3, 0, 1),
  "pb": (0, 2 / 3, 1),
  "p": (1 / 3, 0, 1),
  "b": (0, 1 / 3, 1),
}
UNIFORM = dict.fromkeys(NASH, (1 / 2,) * 3)


def utility(deal, end):
  """Return what the first player wins."""
  if ENDS[end] is None:  # The other player did not call.
    return 1 if end == "bp" else -1
  return ENDS[end] * (1 if deal[0] > deal[1] else -1)


def leaves(strategy):
  """Return the leaves of positive probability."""
  ends = []
  for deal, end in itertools.product(DEALS, ENDS):
    path = [Choice("chance", "deal", deal, 1 / 6)]
    for index, action in enumerate(end):
      card, before = deal[index % 2], end[:index]
      bets = strategy[before][card]
      probability = bets if action == "b" else 1 - bets
      path.append(Choice(FACTORS[index % 2], (card, before), action, probability))
    if all(choice.probability for choice in path):
      ends.append(Leaf(utility(deal, end), tuple(path)))
  return ends


def pure(strategy, befores):
  """Return a player's 64 pure strategies and their probabilities."""
  sets = [(card, before) for before in befores for card in range(3)]
  every = [
    dict(zip(sets, bets, strict=True)) for bets in itertools.product("pb", repeat=6)
  ]
  probability = [
    np.prod(
      [
        strategy[before][card] if bet == "b" else 1 - strategy[before][card]
        for (card, before), bet in each.items()
      ]
    )
    for each in every
  ]
  return every, np.array(probability)


def outcomes(strategy):
  """Return utilities [64, 64, 6] by pure strategies and deal, and probabilities."""
  (firsts, p), (seconds, q) = pure(strategy, ("", "pb")), pure(strategy, ("p", "b"))
  table = np.empty((64, 64, 6))
  for (i, one), (j, two), (k, deal) in itertools.product(
    enumerate(firsts), enumerate(seconds), enumerate(DEALS)
  ):
    end = ""
    while end not in ENDS:
      player = len(end) % 2
      end += (one, two)[player][deal[player], end]
    table[i, j, k] = utility(deal, end)
  return table, (p, q, np.full(6, 1 / 6))


@pytest.fixture(scope="module")
def games():
  return {
    name: (leaves(strategy), *outcomes(strategy))
    for name, strategy in (("uniform", UNIFORM), ("nash", NASH))
  }


def enumerated(table, probabilities, group):
  """Return Var(E[y | S_G]) by summing over all pure strategies."""
  weights = np.einsum("i,j,k->ijk", *probabilities)
  others = tuple(axis for axis, name in enumerate(FACTORS) if name not in group)
  mass = weights.sum(axis=others)
  mean = (weights * table).sum(axis=others) / np.where(mass > 0, mass, 1)
  return (mass * mean**2).sum() - (mass * mean).sum() ** 2


@pytest.mark.parametrize("name", ["uniform", "nash"])
@pytest.mark.parametrize("group", list(variance.subsets(FACTORS)))
def test_the_closed_form_is_the_enumeration_of_pure_strategies(games, name, group):
  ends, table, probabilities = games[name]
  expected = enumerated(table, probabilities, group)
  assert extensive_form.explained(ends, group) == pytest.approx(expected, abs=1e-10)


def test_components_add_up_and_none_is_negative(games):
  ends, table, probabilities = games["uniform"]
  parts = extensive_form.components(ends)
  assert min(parts.values()) > -1e-12
  whole = enumerated(table, probabilities, FACTORS)
  assert sum(parts.values()) == pytest.approx(whole, abs=1e-10)


def test_in_equilibrium_players_have_no_first_order_effect_but_a_total_one(games):
  ends, table, probabilities = games["nash"]
  mean = np.einsum("ijk,i,j,k->", table, *probabilities)
  assert mean == pytest.approx(-1 / 18)  # The value of Kuhn poker.
  effects = variance.effects(extensive_form.components(ends))
  for player in FACTORS[:2]:
    assert effects[player].first_order == pytest.approx(0.0, abs=1e-12)
    assert effects[player].total > 0.1


def test_labels_of_chance_do_not_change_what_a_player_explains(games):
  # The second card drawn afresh after the first: three information sets, not one.
  relabelled = []
  for leaf in games["uniform"][0]:
    deal = leaf.path[0].action
    assert isinstance(deal, tuple)
    cards = (
      Choice("chance", "first card", deal[0], 1 / 3),
      Choice("chance", ("second card", deal[0]), deal[1], 1 / 2),
    )
    relabelled.append(Leaf(leaf.utility, cards + leaf.path[1:]))
  for name in FACTORS[:2]:
    assert extensive_form.explained(relabelled, [name]) == pytest.approx(
      extensive_form.explained(games["uniform"][0], [name]), abs=1e-12
    )


def test_samples_of_strategies_estimate_the_closed_form(games):
  """Paired draws, redrawn factors and crossed tables, within 4 standard errors."""
  ends, table, probabilities = games["uniform"]
  rng = np.random.default_rng(0)

  def draw(number):
    return [rng.choice(len(p), size=number, p=p) for p in probabilities]

  parts = extensive_form.components(ends)
  group, count = {"second", "chance"}, 40_000
  pairs = []
  for _ in range(2):
    one, other = draw(count), draw(count)
    for axis, name in enumerate(FACTORS):
      if name in group:
        other[axis] = one[axis]
    pairs.append([table[tuple(one)], table[tuple(other)]])
  got = variance.pick_freeze(*pairs)
  expected = extensive_form.explained(ends, group)
  assert abs(got.value - expected) < 4 * got.standard_error
  again = draw(count)
  redrawn = [draw(count)[0], *again[1:]]
  total = variance.jansen(table[tuple(again)], table[tuple(redrawn)])
  expected = variance.total_effect(parts, ["first"])
  assert abs(total.value - expected) < 4 * total.standard_error
  crossed = [
    variance.components(table[np.ix_(*(d[:4] for d in draw(4)))], FACTORS)
    for _ in range(1000)
  ]
  for group, expected in parts.items():
    estimates = [each[group] for each in crossed]
    assert abs(np.mean(estimates) - expected) < 4 * stats.sem(estimates)


def test_leaves_that_are_not_all_end_in_one_line(games):
  with pytest.raises(ConfigError, match="add up to 1"):
    extensive_form.explained(games["uniform"][0][1:], ["chance"])
