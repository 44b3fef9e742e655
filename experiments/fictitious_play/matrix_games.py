"""Matrix games of the study, as payoffs to the row player.

Integer payoffs are summed exactly, so that ties are ties.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from undo_jax.frontier import games
from undo_jax.utils.errors import ConfigError


class Game(NamedTuple):
  """A zero-sum game, or one whose payoffs add up to a constant."""

  payoffs: np.ndarray
  unit: float = 1.0  # What the payoffs are divided by.


def cyclic(n: int) -> Game:
  """Return rock, paper, scissors of n moves: each beats the one before it."""
  i = np.arange(n)
  payoffs = np.zeros((n, n), dtype=np.int32)
  payoffs[i, (i - 1) % n] += 1
  payoffs[i, (i + 1) % n] -= 1
  return Game(payoffs)


def transitive(n: int) -> Game:
  """Return a game in which move i beats move i - 1 by (n - i + 2) / n, i from 0.

  It is an equilibrium to play only the last move.
  """
  i = np.arange(1, n)
  payoffs = np.zeros((n, n), dtype=np.int32)
  payoffs[i, i - 1] = n - i + 2
  payoffs[i - 1, i] = -payoffs[i, i - 1]
  return Game(payoffs, float(n))


def gaussian(rng: np.random.Generator, count: int, n: int) -> np.ndarray:
  """Return games of independent normal payoffs, float32 [count, n, n]."""
  return rng.standard_normal((count, n, n), dtype=np.float32)


def zero_sum(payoffs: ArrayLike, column_payoffs: ArrayLike | None = None) -> Game:
  """Return a game with these payoffs; the column player's may be given too.

  Raises:
    ConfigError: if the payoffs are no matrix of finite numbers, or if those of the two
      players do not add up to one constant.
  """
  rows_IxJ = games.matrix(payoffs)
  if column_payoffs is not None:
    columns_IxJ = games.matrix(column_payoffs)
    if columns_IxJ.shape != rows_IxJ.shape:
      raise ConfigError(
        "payoffs of both players have one shape, got"
        f" {rows_IxJ.shape} and {columns_IxJ.shape}"
      )
    total = rows_IxJ + columns_IxJ
    if not np.allclose(total, total.flat[0], rtol=0, atol=1e-9):
      raise ConfigError(
        "a zero-sum game is needed: payoffs of the two players add up to the same"
        f" everywhere, got sums from {total.min():g} to {total.max():g}"
      )
  return Game(rows_IxJ.astype(np.float32))


def of_hundredths(payoffs: Sequence[Sequence[float]]) -> Game:
  """Return a game whose payoffs are multiples of 1/100, as integers."""
  return Game(np.rint(100 * np.asarray(payoffs)).astype(np.int32), 100.0)


# The games by name, with their values where there is a closed form.
NAMED = {
  "matching pennies": of_hundredths([[1, -1], [-1, 1]]),
  "matching pennies, abstaining pays .05": of_hundredths(
    [[1, -1, -0.05], [-1, 1, -0.05], [0.05, 0.05, 0]]
  ),
  "rock paper scissors": of_hundredths([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]),
  "biased": of_hundredths([[0, -2, 1], [2, 0, -1], [-1, 1, 0]]),
  "biased, asymmetric": of_hundredths([[0, -1, 2], [1, 0, -1], [-1, 1, 0]]),
  "weak": of_hundredths([[0, -1, 0.1], [1, 0, -1], [-0.1, 1, 0]]),
  "rock, and a safe rock": of_hundredths(
    [[0, -1, 1, 0], [1, 0, -1, 0.1], [-1, 1, 0, -0.9], [0, -0.1, 0.9, 0]]
  ),
  "starcraft, shares won": of_hundredths(
    [[0.5, 0.65, 0.15], [0.35, 0.5, 0.55], [0.85, 0.45, 0.5]]
  ),
  "identity of 3": Game(np.eye(3, dtype=np.int32)),
  "identity of 10": Game(np.eye(10, dtype=np.int32)),
  "identity of 50": Game(np.eye(50, dtype=np.int32)),
  "cyclic 7": cyclic(7),
  "transitive 7": transitive(7),
}
