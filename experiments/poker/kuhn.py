"""Kuhn poker: three cards, one for each player, and a bet of 1 on an ante of 1.

The first player passes or bets, the second answers, and the first answers a bet that
follows its pass. The value is -1/18, and the first player's equilibria are a line.

Reference: Kuhn, A simplified two-person poker, Contributions to the Theory of Games 1
(1950).
"""

import itertools

from experiments.poker.tree import (
  CHANCE,
  FIRST,
  PLAYERS,
  SECOND,
  End,
  Node,
  Profile,
  Tree,
)
from undo_jax.utils.checks import is_number
from undo_jax.utils.errors import ConfigError

VALUE = -1 / 18
CARDS = (0, 1, 2)  # Jack, queen, king.
_ENDS = {"pp": 1, "pbp": 1, "pbb": 2, "bp": 1, "bb": 2}  # Stakes.


def tree(*, fresh: bool = False) -> Tree:
  """Return the game.

  Args:
    fresh: whether cards are drawn one after the other, each draw an information set of
      chance. Otherwise both are drawn at once, as from a deck shuffled in advance.
  """
  if fresh:
    seconds = {
      first: {s: _play((first, s), "") for s in CARDS if s != first} for first in CARDS
    }
    children = {
      first: Node(CHANCE, ("second card", first), of, dict.fromkeys(of, 1 / 2))
      for first, of in seconds.items()
    }
    return Node(CHANCE, "first card", children, dict.fromkeys(children, 1 / 3))
  deals = {cards: _play(cards, "") for cards in itertools.permutations(CARDS, 2)}
  return Node(CHANCE, "deck", deals, dict.fromkeys(deals, 1 / 6))


def equilibrium(alpha: float) -> Profile:
  """Return the equilibrium in which the first player bets its jack with probability
  alpha, in [0, 1/3].

  Raises:
    ConfigError: if alpha is out of range.
  """
  if not is_number(alpha) or not 0 <= alpha <= 1 / 3:
    raise ConfigError(
      f"alpha of Kuhn poker's equilibria: expected a number in [0, 1/3], got {alpha!r}"
    )
  bets = {
    FIRST: {"": (alpha, 0.0, 3 * alpha), "pb": (0.0, alpha + 1 / 3, 1.0)},
    SECOND: {"p": (1 / 3, 0.0, 1.0), "b": (0.0, 1 / 3, 1.0)},
  }
  return {
    player: {
      (card, before): {"p": 1 - of[card], "b": of[card]}
      for before, of in by_history.items()
      for card in CARDS
    }
    for player, by_history in bets.items()
  }


def _play(cards: tuple[int, int], history: str) -> Tree:
  """Return what follows a history of passes and bets."""
  if history in _ENDS:
    return End(_utilities(cards, history))
  player = len(history) % 2
  children = {action: _play(cards, history + action) for action in "pb"}
  return Node(PLAYERS[player], (cards[player], history), children)


def _utilities(cards: tuple[int, int], history: str) -> tuple[float, float]:
  if history in ("bp", "pbp"):  # A bet was not called.
    won = 1 if history == "bp" else -1
  else:
    won = _ENDS[history] if cards[0] > cards[1] else -_ENDS[history]
  return (float(won), float(-won))
