"""Distribution and density of Vervaat perpetuities, from their delay equation.

  F' = beta (F(x) - F(x - 1)) / x,   F(x) = e^(-gamma beta) x^beta / Gamma(beta + 1) on
  [0, 1]

Divided by x^beta, F is an integral over the interval before, (x^(-beta) F)' = -beta
x^(-beta - 1) F(x - 1). It is computed interval by interval in x = n + s^4: F is smooth
in s, though it is not in x, and all intervals have the same nodes. All is float64.

References: Vervaat, Advances in Applied Probability 11 (1979); for beta = 1 the density
is Dickman's function times e^(-gamma).
"""

import dataclasses

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike
from scipy import special

_DEGREE = 80  # Of the polynomials in s; each interval has one.
_POWER = 4
_DEVIATIONS = 12  # So many beyond the mean, 1 added to each, 1 - F is below rounding.


@dataclasses.dataclass(frozen=True)
class Perpetuity:
  """The law of Y =d U^(1 / beta) (1 + Y)."""

  beta: float
  pieces: np.ndarray  # Chebyshev coefficients in 2 s - 1; row n - 1: [n, n + 1].

  def cdf(self, x: ArrayLike) -> np.ndarray:
    """Return F(x), to about 12 digits."""
    x = np.asarray(x, dtype=float)
    below = np.exp(_log_start(self.beta, np.clip(x, 1e-300, 1.0)))
    interval = np.clip(np.floor(x), 1, len(self.pieces)).astype(int)
    s = np.clip(x - interval, 0, 1) ** (1 / _POWER)
    basis = chebyshev.chebvander(2 * s - 1, _DEGREE).reshape(*x.shape, -1)
    above = np.sum(basis * self.pieces[interval - 1], axis=-1)
    return np.where(x <= 0, 0.0, np.where(x < 1, below, np.clip(above, 0.0, 1.0)))

  def pdf(self, x: ArrayLike) -> np.ndarray:
    """Return f(x) = beta (F(x) - F(x - 1)) / x, to about 12 digits of its maximum."""
    x = np.asarray(x, dtype=float)
    positive = np.where(x > 0, x, 1.0)
    density = self.beta * (self.cdf(x) - self.cdf(x - 1)) / positive
    return np.where(x > 0, np.maximum(density, 0.0), 0.0)


def solve(beta: float) -> Perpetuity:
  """Return the law for a beta, solved up to the point where 1 - F is below rounding."""
  count = int(np.ceil(beta + _DEVIATIONS * (np.sqrt(beta / 2) + 1)))
  nodes = chebyshev.chebpts1(_DEGREE + 1)
  s = (nodes + 1) / 2
  values = _second_interval(beta, 1 + s**_POWER)
  pieces = [chebyshev.chebfit(nodes, values, _DEGREE)]
  for n in range(2, count + 1):
    start = float(chebyshev.chebval(1.0, pieces[-1]))  # F(n)
    x = n + s**_POWER
    # d x = 4 s^3 d s, and s = (node + 1) / 2.
    slope = (n / x) ** (beta + 1) / n * values * _POWER * s ** (_POWER - 1) / 2
    integral = chebyshev.chebint(chebyshev.chebfit(nodes, slope, _DEGREE), lbnd=-1)
    values = (x / n) ** beta * (start - beta * chebyshev.chebval(nodes, integral))
    pieces.append(chebyshev.chebfit(nodes, values, _DEGREE))
  return Perpetuity(beta, np.array(pieces))


def _log_start(beta: float, x: np.ndarray) -> np.ndarray:
  """Return ln F on (0, 1]."""
  return beta * np.log(x) - np.euler_gamma * beta - special.gammaln(beta + 1)


def _second_interval(beta: float, x: np.ndarray) -> np.ndarray:
  """Return F on [1, 2], in closed form.

  F(x) = x^beta F(1) (1 - beta int_0^z s^beta / (1 - s) ds), z = (x - 1) / x
  """
  z = (x - 1) / x
  inner = z ** (beta + 1) / (beta + 1) * special.hyp2f1(1.0, beta + 1, beta + 2, z)
  return np.exp(_log_start(beta, np.ones(1)) + beta * np.log(x)) * (1 - beta * inner)
