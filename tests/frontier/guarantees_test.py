"""What a released model guarantees, and the least suite, by brute force."""

import itertools

import numpy as np
import pytest

from undo_jax.frontier import games, guarantees


def test_pure_maximin_and_the_benefit_of_secrecy_in_closed_form():
  pennies = [[1, -1], [-1, 1]]
  assert guarantees.pure_maximin(pennies) == guarantees.Guarantee(-1.0, 0, 1)
  assert guarantees.benefit_of_secrecy(pennies) == pytest.approx(1.0)
  # A saddle point: no mixture is better than the release that holds it.
  saddle = [[4, 2, 5], [1, 0, 9]]
  assert guarantees.pure_maximin(saddle) == guarantees.Guarantee(2.0, 0, 1)
  assert guarantees.benefit_of_secrecy(saddle) == pytest.approx(0.0, abs=1e-9)


def test_support():
  assert guarantees.support([0.0, 0.5, 1e-12, 0.5]) == (1, 3)


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_suite_keeps_the_value_and_none_of_it_can_be_left_out(seed, released):
  rng = np.random.default_rng(seed)
  payoffs = rng.random((6, 5))
  # Attacks that no one needs: weaker everywhere than one, or than a mixture of two.
  payoffs = np.c_[payoffs, payoffs[:, :1] + 0.1, payoffs[:, 1:3].mean(axis=1)]
  value = guarantees.pure_maximin if released else games.solve
  whole, tolerance = value(payoffs).value, 1e-6
  suite = guarantees.minimal_suite(payoffs, tolerance=tolerance, released=released)
  assert value(payoffs[:, suite]).value < whole + tolerance
  for part in itertools.combinations(suite, len(suite) - 1):
    assert not part or value(payoffs[:, part]).value >= whole + tolerance
  assert 5 not in suite
  if not released:
    assert suite == guarantees.support(games.solve(payoffs).column_strategy_J)


def test_a_wide_tolerance_leaves_one_attack():
  assert len(guarantees.minimal_suite(np.eye(4), tolerance=2.0)) == 1
