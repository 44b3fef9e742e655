"""The four estimators of parts of the variance, each beside its closed form.

  E1  explained variance V_i by pairs that share the strategy of one factor
  E2  total effect T_i by a new draw of one factor alone
  E3  components by crossed tables: all strategies of each factor against all others
  E4  intervals of components by drawing whole levels of a table again

undo_jax.frontier.variance uses the same estimators for the seeds of training runs.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypedDict

import numpy as np

from experiments.variance_decomposition import sampling
from experiments.variance_decomposition.sampling import Strategies, Table
from undo_jax.frontier import variance


class Game(Protocol):
  """A game with a fixed way to play it, as E1 and E2 need it."""

  @property
  def factors(self) -> Sequence[str]:
    """The owners of decisions, which include chance."""
    ...

  def draw(self, factor: str, rng: np.random.Generator, count: int, /) -> np.ndarray:
    """Return `count` pure strategies of a factor, along the first axis."""
    ...

  def outcomes(self, strategies: Strategies, /) -> np.ndarray:
    """Return the utility of each game of the n-th strategies of all factors, [N]."""
    ...


class Estimated(TypedDict):
  """An estimate beside what it estimates."""

  estimate: float
  standard_error: float
  exact: float | None  # None: there is no closed form.


class Coverage(TypedDict):
  """How often the intervals of a component contain its true value."""

  held: int
  tables: int
  median_length: float
  exact: float


def name_of(group: variance.Group) -> str:
  """Return the name of a set of factors in results: "chance x first"."""
  return " x ".join(sorted(group))


def first_order(
  game: Game,
  rng: np.random.Generator,
  count: int,
  parts: variance.Components | None,
) -> dict[str, Estimated]:
  """Return E1 of each factor, by `count` pairs of pairs."""
  estimates = {}
  for factor in game.factors:
    pairs = []
    for _ in range(2):
      one = _draws(game, rng, count)
      other = {**_draws(game, rng, count), factor: one[factor]}
      pairs.append([game.outcomes(one), game.outcomes(other)])
    estimate = variance.pick_freeze(*pairs)
    exact = None if parts is None else variance.explained(parts, [factor])
    estimates[factor] = _beside(estimate, exact)
  return estimates


def total(
  game: Game,
  rng: np.random.Generator,
  count: int,
  parts: variance.Components | None,
) -> dict[str, Estimated]:
  """Return E2 of each factor, by `count` pairs."""
  one = _draws(game, rng, count)
  outcome_N = game.outcomes(one)
  estimates = {}
  for factor in game.factors:
    other = {**one, factor: game.draw(factor, rng, count)}
    estimate = variance.jansen(outcome_N, game.outcomes(other))
    exact = None if parts is None else variance.total_effect(parts, [factor])
    estimates[factor] = _beside(estimate, exact)
  return estimates


def crossed(
  tables: Sequence[np.ndarray], factors: Sequence[str], parts: variance.Components
) -> dict[str, Estimated]:
  """Return E3 of each set of factors: the mean over tables, with its error."""
  estimates = [variance.components(values, factors) for values in tables]
  interactions = {}
  for group, exact in parts.items():
    each = np.array([of_table[group] for of_table in estimates])
    error = float(each.std(ddof=1) / len(each) ** 0.5)
    interactions[name_of(group)] = _beside(
      variance.Estimate(float(each.mean()), error), exact
    )
  return interactions


def coverage(
  tables: Sequence[np.ndarray],
  factors: Sequence[str],
  parts: variance.Components,
  resamples: int,
) -> dict[str, Coverage]:
  """Return E4: in how many tables an interval of 95 % contains the component."""
  intervals = [
    variance.bootstrap(values, factors, seed=seed, num_resamples=resamples)
    for seed, values in enumerate(tables)
  ]
  coverages: dict[str, Coverage] = {}
  for group, exact in parts.items():
    of_group = [each[group] for each in intervals]
    coverages[name_of(group)] = {
      "held": sum(each.low <= exact <= each.high for each in of_group),
      "tables": len(of_group),
      "median_length": float(np.median([each.high - each.low for each in of_group])),
      "exact": exact,
    }
  return coverages


def crossed_tables(
  table: Table, rng: np.random.Generator, levels: int, count: int
) -> Iterator[np.ndarray]:
  """Yield outcomes of `levels` strategies of each factor against each other."""
  for _ in range(count):
    yield sampling.crossed(table, _draws(table, rng, levels))


def _draws(game: Game, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
  return {name: game.draw(name, rng, count) for name in game.factors}


def _beside(estimate: variance.Estimate, exact: float | None) -> Estimated:
  return {
    "estimate": estimate.value,
    "standard_error": estimate.standard_error,
    "exact": exact,
  }
