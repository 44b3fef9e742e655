"""The cheapest numbers of levels, against all of them."""

import math

import numpy as np
import pytest

from undo_jax.frontier import replicates, variance
from undo_jax.utils.errors import ConfigError


def by_brute_force(parts, costs, target, least, most):
  """Return the cheapest levels of all up to a number, of equal costs the surest."""
  names = list(costs)
  grid = np.meshgrid(*(np.arange(least[n], most + 1) for n in names), indexing="ij")
  levels = dict(zip(names, (axis.ravel() for axis in grid), strict=True))
  variance_of_all = sum(
    max(value, 0) / np.prod([levels[n] for n in group], axis=0)
    for group, value in parts.items()
  )
  runs, cost = 1, 0.0
  for name in names:
    runs = runs * levels[name]
    cost = cost + runs * costs[name]
  cost = np.where(variance_of_all <= target**2 * (1 + 1e-12), cost, np.inf)
  best = np.lexsort((variance_of_all, cost))[0]
  return {name: counts[best] for name, counts in levels.items()}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_plan_is_that_of_brute_force(number):
  rng = np.random.default_rng(number)
  names = ["unlearn", "noise", "distill", "attack"][:number]
  most = 30 if number < 4 else 12
  for _ in range(10 if number < 4 else 4):
    groups = [group for group in variance.subsets(names) if group]
    # Components as they may come: some of them negative.
    parts = {group: float(rng.exponential()) - 0.2 for group in groups}
    # Integer costs: there are ties.
    costs = {name: float(rng.integers(0, 5)) for name in names}
    costs[names[-1]] += 1
    parts[groups[0]] = abs(parts[groups[0]])
    whole = sum(max(value, 0) for value in parts.values())
    target = math.sqrt(whole / rng.uniform(1.5, 5 if number < 4 else 3))
    bought = {name: int(rng.integers(1, 3)) for name in names}
    got = replicates.plan(parts, costs, target, bought=bought)
    assert max(got.levels.values()) <= most
    assert got.levels == by_brute_force(parts, costs, target, bought, most)
    spent = replicates.nested_cost(costs, bought)
    assert got.cost == replicates.nested_cost(costs, got.levels) - spent
    assert got.standard_error <= target * (1 + 1e-9)


def test_the_nested_cost_counts_every_run():
  costs = {"unlearn": 7.0, "noise": 0.0, "distill": 20.0, "attack": 0.5}
  levels = {"unlearn": 2, "noise": 3, "distill": 1, "attack": 4}
  expected = 2 * 7.0 + 6 * 0.0 + 6 * 20.0 + 24 * 0.5
  assert replicates.nested_cost(costs, levels) == expected
  parts = {frozenset(["unlearn"]): 1.0}
  one = replicates.plan(parts, {"unlearn": 2.0}, 0.5)
  assert one == replicates.Plan({"unlearn": 4}, 8.0, 0.5)


def test_of_equal_costs_the_surest_is_bought():
  # Six runs: 2 x 3 and 6 x 1 have the variance 2/3, 3 x 2 has 7/12.
  parts = {frozenset("a"): 1.0, frozenset("b"): 0.5}
  got = replicates.plan(parts, {"a": 0.0, "b": 1.0}, 0.68**0.5)
  assert got == replicates.Plan({"a": 3, "b": 2}, 6.0, pytest.approx((7 / 12) ** 0.5))


def test_attacks_a_noise_seed_near_the_continuous_optimum():
  # Minimizing (s_n + s_r / m) (c_d + m c_a) over m: sqrt(c_d s_r / (c_a s_n)).
  parts = {
    frozenset(["noise"]): 1.0,
    frozenset(["attack"]): 0.0,
    frozenset(["noise", "attack"]): 4.0,
  }
  got = replicates.plan(parts, {"noise": 9.0, "attack": 1.0}, 0.1)
  assert got.levels["attack"] == pytest.approx(math.sqrt(9 * 4), abs=1)
  assert got.levels["noise"] == pytest.approx(100 * (1 + 4 / 6), rel=0.05)


def test_what_has_no_plan_ends_in_one_line():
  parts = {frozenset(["noise"]): 1.0}
  for arguments, words in (
    ((parts, {"attack": 1.0}, 0.1), "same factors"),
    ((parts, {"noise": 0.0}, 0.1), "positive"),
    ((parts, {"noise": 1.0}, 0.0), "positive"),
  ):
    with pytest.raises(ConfigError, match=words):
      replicates.plan(*arguments)
  with pytest.raises(ConfigError, match="1 level"):
    replicates.plan(parts, {"noise": 1.0}, 0.1, bought={"noise": 0})
