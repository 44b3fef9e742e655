"""How many levels of each seed to run next: the cheapest sufficiently precise table."""

from collections.abc import Mapping
import dataclasses
import itertools
import math

from undo_jax.frontier.variance import Components, variance_of_mean
from undo_jax.utils.errors import ConfigError

# Rounding must not decide whether a standard error that equals the target reaches it.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Plan:
  """A full table of runs to arrive at."""

  levels: dict[str, int]  # Of each factor, those that are there already among them.
  cost: float  # Of what is to be bought.
  standard_error: float  # Of the mean of the whole table, if the components are right.


def nested_cost(costs: Mapping[str, float], levels: Mapping[str, int]) -> float:
  """Return n_1 (c_1 + n_2 (c_2 + ... + n_k c_k)), of factors in the order of `costs`.

  A level of a factor is run anew under every combination of levels before it.
  """
  whole = 0.0
  for name in reversed(tuple(costs)):
    whole = levels[name] * (costs[name] + whole)
  return whole


def plan(
  components: Components,
  costs: Mapping[str, float],
  target: float,
  *,
  bought: Mapping[str, int] | None = None,
) -> Plan:
  """Return the cheapest numbers of levels whose mean is known well enough.

  minimize nested_cost(costs, n) subject to sum_G sigma2_G / prod_{a in G} n_a
  <= target^2 over integers n >= bought; of equal costs the smaller error

  The search is exact: it tries all numbers of levels that cost no more than the best
  so far, except for the last factor, whose number follows from the others. It takes
  seconds if four factors need twenty levels each. Negative estimates of components
  count as 0.

  Args:
    components: see `variance.components`, of the factors of `costs`.
    costs: what one level of a factor costs under one level of those before it, outer
      factors first: {"unlearn": 1.0, "noise": 0.0, "distill": 20.0, "attack": 0.5}.
    target: the standard error of the mean to reach.
    bought: levels that are there already, in a full table; 1 where not named.

  Raises:
    ConfigError: if the factors differ, the last cost or the target is not positive, or
      another cost is negative.
  """
  _check(components, costs, target, bought or {})
  positive = {group: max(value, 0.0) for group, value in components.items()}
  limit = target**2 * (1 + _ROUNDING)
  levels = _Search(positive, costs, limit, bought or {}).cheapest()
  there = {name: (bought or {}).get(name, 1) for name in costs}
  return Plan(
    levels,
    nested_cost(costs, levels) - (nested_cost(costs, there) if bought else 0.0),
    math.sqrt(variance_of_mean(positive, levels)),
  )


class _Search:
  """Depth first over the factors, without what costs more than the best so far."""

  def __init__(
    self,
    components: Components,
    costs: Mapping[str, float],
    limit: float,
    bought: Mapping[str, int],
  ):
    self.components, self.costs, self.limit = components, costs, limit
    self.bought = {name: bought.get(name, 1) for name in costs}

  def cheapest(self) -> dict[str, int]:
    """Return the levels of the least cost whose variance is within the limit."""
    levels = dict(self.bought)
    while variance_of_mean(self.components, levels) > self.limit:
      levels = {name: count + 1 + count // 8 for name, count in levels.items()}
    self.levels, self.rank = levels, self._rank(levels)
    self._descend({})
    return self.levels

  def _descend(self, prefix: dict[str, int]) -> None:
    """Try all levels of the factors after a prefix that may be better."""
    least = self._at_least(prefix)
    if least is None or nested_cost(self.costs, least) > self.rank[0]:
      return
    name, *rest = tuple(self.costs)[len(prefix) :]
    if not rest:
      if (rank := self._rank(least)) < self.rank:
        self.levels, self.rank = least, rank
      return
    for count in itertools.count(least[name]):
      if nested_cost(self.costs, {**least, name: count}) > self.rank[0]:
        return
      self._descend({**prefix, name: count})

  def _at_least(self, prefix: dict[str, int]) -> dict[str, int] | None:
    """Return how many levels each factor takes beside a prefix.

    Later factors are taken as having infinitely many levels; for the last factor it is
    the number needed. None if no number is enough.
    """
    least = dict(prefix)
    for name in tuple(self.costs)[len(prefix) :]:
      fixed, shared = 0.0, 0.0  # What stays, and what `name` divides.
      for group, value in self.components.items():
        if group <= {*prefix, name}:
          part = value / math.prod(prefix[other] for other in group - {name})
          fixed, shared = (
            (fixed, shared + part) if name in group else (fixed + part, shared)
          )
      if fixed > self.limit or (fixed == self.limit and shared):
        return None
      count = math.ceil(shared / (self.limit - fixed)) if shared else 1
      least[name] = max(self.bought[name], count)
    return least

  def _rank(self, levels: dict[str, int]) -> tuple[float, float]:
    variance = variance_of_mean(self.components, levels)
    return nested_cost(self.costs, levels), variance


def _check(
  components: Components,
  costs: Mapping[str, float],
  target: float,
  bought: Mapping[str, int],
) -> None:
  """Raise ConfigError for what has no cheapest plan."""
  named = frozenset().union(*components)
  if not named or named != set(costs) or not set(bought) <= named:
    raise ConfigError(
      f"components, costs and bought are of the same factors, got {sorted(named)},"
      f" {list(costs)} and {sorted(bought)}"
    )
  *outer, last = costs.values()
  if not (last > 0 and all(cost >= 0 for cost in outer) and target > 0):
    raise ConfigError(
      "the target and the last factor's cost are positive and no cost is negative, got"
      f" {target} and {dict(costs)}"
    )
  if any(count < 1 for count in bought.values()):
    raise ConfigError(f"bought is 1 level or more of a factor, got {dict(bought)}")
