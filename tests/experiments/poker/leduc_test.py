"""Leduc hold'em: its sizes, deals and stakes, counted otherwise."""

import itertools

import pytest

from experiments.poker import leduc, tree
from experiments.poker.tree import PLAYERS, End


def at(game, deal, *actions):
  """Return the node after a deal and actions."""
  node = game.children[deal]
  for action in actions:
    node = node.children[action]
  return node


def test_sizes_are_those_of_betting_sequences():
  """A round ends by a call in 5 ways and by a fold in 4, so 4 + 5 * 9 a deal."""
  game = leduc.tree()
  ends = [node for node in tree.nodes(game) if isinstance(node, End)]
  assert len(ends) == 24 * 49
  for player in PLAYERS:
    # 3 decisions in the first round by rank, and 3 in each second one by both ranks.
    assert len(tree.information_sets(game, player)) == 3 * 3 + 5 * 3 * 9
  fresh = [node for node in tree.nodes(leduc.tree(fresh=True)) if isinstance(node, End)]
  # After a pair no third card of the rank is left.
  assert len(fresh) == 9 * 4 + 5 * 9 * (6 * 3 + 3 * 2)


def test_deals_are_as_likely_as_shuffled_cards():
  shuffles = list(itertools.permutations(leduc.DECK))
  for deal, probability in leduc.tree().probabilities.items():
    count = sum(shuffle[:3] == deal for shuffle in shuffles)
    assert probability == pytest.approx(count / len(shuffles))


@pytest.mark.parametrize(
  "deal, actions, won",
  [
    ((2, 0, 1), "cccc", 1),  # Nobody bets: antes.
    ((0, 2, 0), "cccc", 1),  # A pair beats a king.
    ((1, 1, 0), "rcrc", 0),  # Equal ranks split.
    ((0, 2, 1), "rcrc", -(1 + 2 + 4)),
    ((2, 0, 1), "rrcrrc", 1 + 2 * 2 + 2 * 4),
    ((2, 0, 1), "rf", 1),  # A bet is folded to: the ante.
    ((2, 0, 1), "crf", -1),
    ((2, 0, 1), "crrf", 1 + 2),
    ((2, 0, 1), "rccrrf", 1 + 2 + 4),
  ],
)
def test_stakes(deal, actions, won):
  node = at(leduc.tree(), deal, *actions)
  assert isinstance(node, End) and node.utilities == (won, -won)


def test_at_most_two_bets_a_round_and_no_fold_without_one():
  game = leduc.tree()
  assert list(at(game, (0, 1, 2)).children) == ["c", "r"]
  assert list(at(game, (0, 1, 2), "r").children) == ["f", "c", "r"]
  assert list(at(game, (0, 1, 2), "r", "r").children) == ["f", "c"]
