"""Fronts and attainment against brute force over all points and costs."""

import itertools
import math

import numpy as np
import pytest

from undo_jax.frontier.attainment import attained, front


def drawn(rng, count):
  """Return points on a coarse grid, so that costs and scores are often equal."""
  return [tuple(map(float, point)) for point in rng.integers(0, 6, size=(count, 2))]


def reached(points, cost):
  return max((score for price, score in points if price <= cost), default=-math.inf)


def test_a_front_is_what_no_other_point_dominates():
  rng = np.random.default_rng(0)
  for count in (0, 1, 2, 7, 20):
    points = drawn(rng, count)
    undominated = {
      (cost, score)
      for cost, score in points
      if not any(
        c <= cost and s >= score and (c, s) != (cost, score) for c, s in points
      )
    }
    assert front(points) == sorted(undominated)


def test_attained_is_the_quantile_of_the_seeds_at_every_cost():
  rng = np.random.default_rng(1)
  for seeds, count in itertools.product((1, 2, 3, 5), (1, 4, 9)):
    by_seed = [drawn(rng, count) for _ in range(seeds)]
    for least in range(1, seeds + 1):
      got = attained(by_seed, least)
      assert got == front(got)
      for cost in np.arange(-0.5, 6.5, 0.5):
        scores = [reached(points, cost) for points in by_seed]
        several = itertools.combinations(scores, least)
        assert reached(got, cost) == max(min(chosen) for chosen in several)


def test_what_a_seed_never_attains_is_not_guaranteed():
  assert attained([[(1.0, 0.5)], []], 2) == []
  assert attained([[(1.0, 0.5)], []], 1) == [(1.0, 0.5)]
  for count in (0, 3):
    with pytest.raises(ValueError, match="in 1 to 2"):
      attained([[], []], count)
