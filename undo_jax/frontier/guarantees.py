"""What a table of releases against attacks guarantees, and which attacks it takes.

Weights are released once and the attacker sees them: a release guarantees its worst
entry, and the best release the pure maximin. A mixture of rows is a release drawn in
secret. Its value bounds what any single release can guarantee, but is no robustness;
its excess over the pure maximin is the benefit of secrecy. The attacker's mixture says
which attacks keep every release at that value.

Shapes: I rows (releases, maximizing), J columns (attacks).
"""

from collections.abc import Callable
import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from undo_jax.frontier.games import matrix, solve

_SUPPORT = 1e-7  # Probabilities that HiGHS, to its tolerance, may leave above zero.


@dataclasses.dataclass(frozen=True)
class Guarantee:
  """The best single row, against an attacker who has seen it."""

  value: float  # max_i min_j A_ij
  row: int
  column: int  # The attack that holds it there.


def pure_maximin(payoffs: ArrayLike) -> Guarantee:
  """Return what a released model guarantees: max_i min_j A_ij, of ties the first."""
  payoffs_IxJ = matrix(payoffs)
  row = int(payoffs_IxJ.min(axis=1).argmax())
  column = int(payoffs_IxJ[row].argmin())
  return Guarantee(float(payoffs_IxJ[row, column]), row, column)


def benefit_of_secrecy(payoffs: ArrayLike) -> float:
  """Return the mixed value minus the pure maximin: what a secret draw could add."""
  return solve(payoffs).value - pure_maximin(payoffs).value


def support(strategy: ArrayLike, *, tolerance: float = _SUPPORT) -> tuple[int, ...]:
  """Return the indices that a strategy plays with more than a probability."""
  return tuple(np.flatnonzero(np.asarray(strategy) > tolerance).tolist())


def minimal_suite(
  payoffs: ArrayLike, *, tolerance: float = 1e-6, released: bool = False
) -> tuple[int, ...]:
  """Return attacks that alone keep the value: none of them can be left out.

  Columns are dropped one after the other, those that the equilibrium plays least first,
  while the value of what is left is less than `tolerance` above that of the whole game.
  The result is minimal (without any of its columns the value rises by the tolerance or
  more), though another suite may be smaller.

  Args:
    payoffs: A of shape [I, J], to the row player.
    tolerance: in units of the payoffs; above HiGHS's own 1e-7 of their range.
    released: the value is the pure maximin, of models that the attacker has seen, not
      that of mixtures.

  Returns:
    Ascending indices of columns.
  """
  payoffs_IxJ = matrix(payoffs)
  value: Callable[[np.ndarray], float] = (
    (lambda part: pure_maximin(part).value)
    if released
    else (lambda part: solve(part).value)
  )
  limit = value(payoffs_IxJ) + tolerance
  probability_J = solve(payoffs_IxJ).column_strategy_J
  kept = list(range(payoffs_IxJ.shape[1]))
  for column in np.argsort(probability_J, kind="stable").tolist():
    rest = [other for other in kept if other != column]
    if rest and value(payoffs_IxJ[:, rest]) < limit:
      kept = rest
  return tuple(kept)
