"""The score that one seed, some or all seeds reach at each cost.

A point is (cost, score): less cost and more score are better. A front is a staircase:
from the cost of each of its points on, its score is within reach.
"""

from collections.abc import Iterable, Sequence
import math
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
Front: TypeAlias = list[Point]


def front(points: Iterable[Point]) -> Front:
  """Return the points that no other beats, cost and score ascending.

  {p : no q with cost_q <= cost_p, score_q >= score_p and q != p}
  """
  best: Front = []
  for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
    if not best or score > best[-1][1]:
      best.append((cost, score))
  return best


def attained(points_by_seed: Sequence[Iterable[Point]], count: int) -> Front:
  """Return the front of what at least `count` of K seeds attain.

  score(cost) = the count-th largest over seeds of max {score_p : cost_p <= cost}

  With count = K it is what the worst seed guarantees at each cost, with 1 what the
  best one shows to be possible, between them the quantiles of the seeds.

  Args:
    points_by_seed: [K] the points of each seed.
    count: of seeds, in 1 to K.

  Returns:
    A front; empty if fewer seeds than that attain anything.

  Raises:
    ValueError: if the count is out of its range.

  Reference: Grunert da Fonseca, Fonseca and Hall, Inferential performance assessment
  of stochastic optimisers and the attainment function, EMO 2001.
  """
  if not 1 <= count <= len(points_by_seed):
    raise ValueError(f"count must be in 1 to {len(points_by_seed)}, got {count}")
  fronts = [front(points) for points in points_by_seed]
  costs = sorted({cost for each in fronts for cost, _ in each})
  steps = (
    (cost, sorted((_reached(each, cost) for each in fronts), reverse=True)[count - 1])
    for cost in costs
  )
  return front((cost, score) for cost, score in steps if score > -math.inf)


def _reached(best: Front, cost: float) -> float:
  """Return the highest score within a cost, -inf where there is none."""
  return max((score for price, score in best if price <= cost), default=-math.inf)
