"""The solved law against closed forms, Dickman's function and Laplace transforms."""

import numpy as np
import pytest
from scipy import special

from experiments.vervaat import distribution

GAMMA = np.euler_gamma
# Dickman's function: rho(2) = 1 - ln 2; the others are tabulated.
DICKMAN = {0.5: 1.0, 1.0: 1.0, 2.0: 1 - np.log(2), 3.0: 0.0486083883, 4.0: 0.0049109256}


def test_of_beta_1_the_first_values_are_known():
  law = distribution.solve(1.0)
  assert law.cdf(1.0) == pytest.approx(np.exp(-GAMMA), rel=1e-12)
  assert law.cdf(2.0) == pytest.approx(np.exp(-GAMMA) * (3 - 2 * np.log(2)), rel=1e-12)
  for x, rho in DICKMAN.items():
    assert law.pdf(x) == pytest.approx(np.exp(-GAMMA) * rho, rel=1e-7)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0, 4.0, 16.0, 64.0])
def test_the_whole_is_one_and_the_laplace_transform_is_the_closed_form(beta):
  """E exp(-s Y) = exp(-beta (E1(s) + ln s + gamma)) = s int exp(-s x) F(x) dx."""
  law = distribution.solve(beta)
  end = len(law.pieces)
  assert law.cdf(end) == pytest.approx(1.0, abs=1e-10)
  s = 3.0 / beta**0.5
  expected = np.exp(-beta * (special.exp1(s) + np.log(s) + GAMMA))
  got = 0.0
  for left in range(end):
    # x = left + u^4, smooth where x^beta is not.
    u, weights = special.roots_legendre(40)
    u, weights = (u + 1) / 2, weights / 2
    x = left + u**4
    got += np.sum(weights * 4 * u**3 * s * np.exp(-s * x) * law.cdf(x))
  got += np.exp(-s * end)
  assert got == pytest.approx(expected, rel=1e-8 if beta > 0.1 else 1e-6)


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_mean_and_variance_of_the_density(beta):
  law = distribution.solve(beta)
  end = len(law.pieces)

  def moment(power):
    u, weights = special.roots_legendre(30)
    u, weights = (u + 1) / 2, weights / 2
    x = np.arange(end)[:, None] + u**4
    return np.sum(weights * 4 * u**3 * x**power * law.pdf(x))

  assert moment(1) == pytest.approx(beta, rel=1e-6)
  assert moment(2) - beta**2 == pytest.approx(beta / 2, rel=1e-5)


def test_below_zero_there_is_nothing():
  law = distribution.solve(2.0)
  assert law.cdf(-1.0) == 0 and law.pdf(-1.0) == 0 and law.pdf(0.0) == 0
