"""Which of a run's attacks would have been enough."""

import dataclasses
from typing import NamedTuple

import numpy as np

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import guarantees, robustness
from undo_jax.frontier import statistics as st
from undo_jax.frontier.results import Results

SLACK = 0.02  # A share of the range of the scores: what counts as the same.


class Game(NamedTuple):
  """Released models against attacks: I releases, J attacks."""

  releases: tuple[str, ...]
  attacks: tuple[str, ...]
  payoffs_IxJ: np.ndarray  # To the release: more is better.


@dataclasses.dataclass(frozen=True)
class Suite:
  """Attacks that say as much as all of them, within SLACK."""

  guarantee: tuple[str, ...]  # Of what the best release is sure of.
  every: tuple[str, ...]  # Of every release's own worst case.
  best: str  # The release that is sure of most.
  releases: int
  attacks: int


def game(results: Results, budget: int) -> Game | None:
  """Return the worst forget score of releases under each attack within a budget.

  A row for each model that is not broken and was attacked by all attacks that the worst
  case is over; means over seeds, with the other sign if more is more capable.

  Returns:
    None with fewer than two releases or attacks.
  """
  attacks = robustness.counted(results)
  sign = -1.0 if higher_is_worse(results.metrics["forget"]) else 1.0
  rows = {}
  for name in results.models:
    scores = [st.worst_forget(results, name, budget, (each,)) for each in attacks]
    if None not in scores and not st.is_broken(results, name):
      rows[name] = [sign * score.value for score in scores if score is not None]
  if len(rows) < 2 or len(attacks) < 2:
    return None
  return Game(tuple(rows), attacks, np.array([*rows.values()]))


def find(results: Results, budget: int) -> Suite | None:
  """Return the attacks that would have been enough, None of fewer than two attacks.

  guarantee: max_i min_j A_ij over these attacks is at most SLACK above that over all;
  every: so is min_j A_ij of each release i. The first is minimal (none of it can be
  left out), the second has the fewest attacks there are.
  """
  made = game(results, budget)
  if made is None:
    return None
  payoffs_IxJ = made.payoffs_IxJ
  slack = SLACK * float(np.ptp(payoffs_IxJ))
  if not slack:  # All are the same.
    return None
  columns = guarantees.minimal_suite(payoffs_IxJ, tolerance=slack, released=True)
  row = guarantees.pure_maximin(payoffs_IxJ).row
  return Suite(
    guarantee=tuple(made.attacks[column] for column in columns),
    every=tuple(made.attacks[column] for column in _cover(payoffs_IxJ, slack)),
    best=made.releases[row],
    releases=len(made.releases),
    attacks=len(made.attacks),
  )


def _cover(payoffs_IxJ: np.ndarray, slack: float) -> tuple[int, ...]:
  """Return the fewest columns among which every row's minimum is, within the slack."""
  from scipy import optimize  # Here, since it takes a quarter of a second.

  held_IxJ = payoffs_IxJ <= payoffs_IxJ.min(axis=1, keepdims=True) + slack
  found = optimize.milp(
    np.ones(held_IxJ.shape[1]),
    integrality=1,
    bounds=optimize.Bounds(0, 1),
    constraints=optimize.LinearConstraint(held_IxJ.astype(float), lb=1),
  )
  assert found.success, "all columns hold every row"
  return tuple(np.flatnonzero(found.x > 0.5).tolist())
