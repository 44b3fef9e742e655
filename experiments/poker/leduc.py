"""Leduc hold'em: six cards of three ranks, one for each player and one public card.

There are two rounds. Antes are 1, bets are 2 before and 4 after the public card, and a
round has at most two bets. A pair with the public card wins, then the higher rank;
equal ranks split. Suits play no part: information sets and deals have ranks alone.

Reference: Southey et al., Bayes' bluff: opponent modelling in poker, UAI 2005.
"""

from collections import Counter
import itertools
from typing import NamedTuple

from experiments.poker.tree import CHANCE, PLAYERS, End, Node, Tree

VALUE = -0.0856064  # To the first player, as in published implementations.
DECK: tuple[int, ...] = (0, 0, 1, 1, 2, 2)  # Jacks, queens, kings.
_BETS = (2, 4)
_MOST_BETS = 2


class _Hand(NamedTuple):
  """What has happened in a game so far."""

  cards: tuple[int, int]
  public: int | None  # Rank of the third card, whether it is shown or not.
  rounds: tuple[str, ...]  # Actions of each round: fold, call or check, raise.
  stakes: tuple[int, int]


def tree(*, fresh: bool = False) -> Tree:
  """Return the game.

  Args:
    fresh: whether the public card is drawn when it is shown, anew after each course of
      bets. Otherwise the deck is shuffled in advance, one information set of chance.
  """
  count = 2 if fresh else 3
  deals = Counter(itertools.permutations(DECK, count))
  total = sum(deals.values())
  children = {}
  for deal in deals:
    public = None if fresh else deal[2]
    children[deal] = _act(_Hand((deal[0], deal[1]), public, ("",), (1, 1)))
  probabilities = {deal: number / total for deal, number in deals.items()}
  return Node(CHANCE, "deck", children, probabilities)


def _act(hand: _Hand) -> Tree:
  """Return the decision of whoever's turn it is."""
  history = hand.rounds[-1]
  player = len(history) % 2
  facing = history.endswith("r")
  actions = ["f"] * facing + ["c"] + ["r"] * (history.count("r") < _MOST_BETS)
  shown = hand.public if len(hand.rounds) == 2 else None
  children = {action: _after(hand, player, action) for action in actions}
  return Node(PLAYERS[player], (hand.cards[player], shown, hand.rounds), children)


def _after(hand: _Hand, player: int, action: str) -> Tree:
  """Return what follows an action."""
  if action == "f":
    return _end(hand.stakes[1] if player == 1 else -hand.stakes[0])
  history = hand.rounds[-1] + action
  most = max(hand.stakes)
  if action == "r":
    most += _BETS[len(hand.rounds) - 1]
  stakes = (most, hand.stakes[1]) if player == 0 else (hand.stakes[0], most)
  after = hand._replace(rounds=(*hand.rounds[:-1], history), stakes=stakes)
  if action == "r" or len(history) == 1:
    return _act(after)
  return _showdown(after) if len(hand.rounds) == 2 else _second_round(after)


def _second_round(hand: _Hand) -> Tree:
  """Return the second round, with a draw of the public card if it is not known."""
  begun = hand._replace(rounds=(*hand.rounds, ""))
  if hand.public is not None:
    return _act(begun)
  left = Counter(DECK) - Counter(hand.cards)
  children = {card: _act(begun._replace(public=card)) for card in left}
  probabilities = {card: left[card] / left.total() for card in left}
  return Node(CHANCE, ("public", hand.cards, hand.rounds), children, probabilities)


def _showdown(hand: _Hand) -> Tree:
  """Return the end at which the better hand wins the equal stakes."""
  first, second = (
    (card == hand.public, card) for card in hand.cards
  )  # A pair, then the rank.
  return _end(hand.stakes[0] * ((first > second) - (first < second)))


def _end(won: float) -> End:
  return End((float(won), float(-won)))
