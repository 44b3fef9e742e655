"""Hold'em: known odds, closed forms against enumeration, the betting against a tree."""

import itertools

import numpy as np
import pytest

from experiments.poker import holdem
from experiments.poker.tree import CHANCE, FIRST, SECOND
from undo_jax.frontier import variance
from undo_jax.utils.errors import ConfigError


def small(jams, calls):
  """Return a game of three kinds of hands and seven deals."""
  rng = np.random.default_rng(0)
  kinds = rng.integers(3, size=(2, 7))
  stakes = rng.choice([-4.0, 0.0, 4.0], size=7)
  return holdem.JamOrFold(*kinds, stakes, np.array(jams), np.array(calls))


MIXED = small([0.3, 0.9, 0.5], [0.2, 0.6, 1.0])


def test_closed_form_equals_all_pure_strategies():
  pure = np.array(list(itertools.product((0, 1), repeat=3)), bool)
  table = np.zeros((8, 8, 7))
  for (i, jams), (j, calls) in itertools.product(enumerate(pure), enumerate(pure)):
    strategies = {FIRST: np.tile(jams, (7, 1)), SECOND: np.tile(calls, (7, 1))}
    table[i, j] = MIXED.outcomes({**strategies, CHANCE: np.arange(7)})
  first, second = (
    np.where(pure, p, 1 - p).prod(axis=1) for p in (MIXED.jams_K, MIXED.calls_K)
  )
  mass = np.einsum("i,j,k->ijk", first, second, np.full(7, 1 / 7))
  mean = (mass * table).sum()
  assert MIXED.mean() == pytest.approx(mean)
  got = MIXED.components()
  for group in variance.subsets(holdem.FACTORS):
    others = tuple(i for i, name in enumerate(holdem.FACTORS) if name not in group)
    weights = mass.sum(axis=others)
    given = (mass * table).sum(axis=others) / np.where(weights > 0, weights, 1.0)
    expected = (weights * given**2).sum() - mean**2
    assert variance.explained(got, group) == pytest.approx(expected, abs=1e-12)


def test_nobody_gains_at_the_equilibrium_and_each_gains_by_its_best_response():
  solved = MIXED.solved()
  assert solved.exploitability() == pytest.approx(0.0, abs=1e-9)
  pure = list(itertools.product((0.0, 1.0), repeat=3))
  for player, better in ((FIRST, max), (SECOND, min)):
    field = "jams" if player == FIRST else "calls"
    others = {"jams": [0.3, 0.9, 0.5], "calls": [0.2, 0.6, 1.0]}
    best = better(small(**{**others, field: each}).mean() for each in pure)
    assert MIXED.responding(player).mean() == pytest.approx(best)


def test_drawn_strategies_have_the_mean_and_variance_of_the_closed_form():
  rng = np.random.default_rng(1)
  drawn = {name: MIXED.draw(name, rng, 40_000) for name in holdem.FACTORS}
  outcome = MIXED.outcomes(drawn)
  error = outcome.std() / 200
  assert abs(outcome.mean() - MIXED.mean()) < 4 * error
  assert outcome.var() == pytest.approx(sum(MIXED.components().values()), rel=0.05)


def test_kinds_are_169_as_often_as_combinations_say():
  hands = np.array(list(itertools.combinations(range(52), 2)))
  counts = np.bincount(holdem.kinds(hands), minlength=169).reshape(13, 13)
  assert (np.diag(counts) == 6).all()  # Pairs.
  assert (counts[np.tril_indices(13, -1)] == 4).all()  # Suited.
  assert (counts[np.triu_indices(13, 1)] == 12).all()
  assert (holdem.kinds(hands[:, ::-1]) == holdem.kinds(hands)).all()


def test_known_odds_and_the_known_equilibrium_of_ten_big_blinds():
  pytest.importorskip("phevaluator")
  dealt = holdem.deals(np.random.default_rng(0), 30_000)
  assert dealt.cards_Dx9.max() < 52
  assert all(len(set(cards)) == 9 for cards in dealt.cards_Dx9[:100].tolist())
  game = holdem.JamOrFold.uniform(dealt, 10.0)
  aces = 13 * 12 + 12
  won = dealt.won_D[game.first_D == aces]
  share = (won > 0).mean() + (won == 0).mean() / 2
  assert share == pytest.approx(0.852, abs=0.1)  # Of aces against any hand.
  solved = game.solved()
  # The hands that holdemresources.net's chart jams at 10 big blinds are 770 of 1,326.
  assert solved.shares()[0] == pytest.approx(770 / 1326, abs=0.05)
  assert solved.jams_K[aces] == solved.calls_K[aces] == 1.0


def betting(street, paid, bets, turn, acted):
  """Yield (probability, the first's utility of a fold or None, its last stake)."""
  actions = [kind for kind, legal in (
    ("fold", paid[turn] < paid[1 - turn]), ("call", True), ("raise", bets < 4)
  ) if legal]  # fmt: skip
  for action in actions:
    share, now = 1 / len(actions), list(paid)
    if action == "fold":
      yield share, paid[1] if turn else -paid[0], None
      continue
    now[turn] = max(paid) + ((1, 1, 2, 2)[street] if action == "raise" else 0)
    if action == "raise":
      rest = betting(street, now, bets + 1, 1 - turn, True)
    elif not acted:
      rest = betting(street, now, bets, 1 - turn, True)
    elif street == 3:
      rest = [(1.0, None, now[0])]
    else:
      rest = betting(street + 1, now, 0, 1, False)
    for probability, folded, stake in rest:
      yield share * probability, folded, stake


def test_limit_bets_as_the_tree_of_its_rules():
  rng = np.random.default_rng(0)
  cards = rng.permuted(np.tile(np.arange(52), (5_000, 1)), axis=1)[:, :9]
  game = holdem.Limit(holdem.Deals(cards, rng.choice([-1.0, 0.0, 1.0], 5_000)))
  drawn = {name: game.draw(name, rng, 60_000) for name in holdem.FACTORS}
  outcome = game.outcomes(drawn)
  won, ties = game.dealt.won_D.mean(), (game.dealt.won_D == 0).mean()
  mean = square = 0.0
  for probability, folded, stake in betting(0, (0.5, 1.0), 1, 0, False):
    mean += probability * (stake * won if folded is None else folded)
    square += probability * (stake**2 * (1 - ties) if folded is None else folded**2)
  assert abs(outcome.mean() - mean) < 4 * outcome.std() / 60_000**0.5
  assert outcome.var() == pytest.approx(square - mean**2, rel=0.03)
  again = game.outcomes(drawn)
  np.testing.assert_array_equal(outcome, again)  # Strategies are pure.


@pytest.mark.parametrize("stack", [1.0, "ten", float("nan")])
def test_a_stack_must_be_more_than_the_blind(stack):
  dealt = holdem.Deals(np.zeros((1, 9), int), np.zeros(1))
  with pytest.raises(ConfigError, match="stack: expected a number of big blinds above"):
    holdem.JamOrFold.uniform(dealt, stack)
