"""Defenses at equal retention: the member that stands for each family.

A family is the members of one sweep, or a model by itself; the base is not a family,
as nothing was removed from it. The bound b is the mean retain score of data filtering,
or of the
base where nothing was filtered. Of scores of which more is better, with mean r and
half-width h of the 95 % interval over seeds (0 of a single seed),

  cheapest       argmin FLOPs over members with r + h >= b
  most robust    argmax resistance over members with r >= b - p * s / 100

for a loss of p points at most; s is the length of the metric's range, or |b| where it
has none. So the first is not known to retain less than the bound, and the second
retains that much on average. Of scores of which less is better the signs of r and b
change. Ties go to the first in the order of the config; models that were not attacked
come last, and a family without a fitting member has None.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import resistance, rivals
from undo_jax.frontier import statistics as st
from undo_jax.frontier.results import AtRetain, Measured, Metric, Results, Standing
from undo_jax.frontier.statistics import Mean, reference

LOSSES = (0.0, 1.0, 2.0, 5.0)  # Points of the retain score.
_ROUNDING = 1e-9  # 0.96 - 0.01 retains 0.95.


def completed(results: Results) -> Results:
  """Return results with who stands for each family, as results.json holds it."""
  points = cheapest(results) + [
    each for loss in LOSSES for each in most_robust(results, loss)
  ]
  return dataclasses.replace(results, at_retain=tuple(points))


def bound(results: Results) -> float | None:
  """Return the retain score that members are held to; None without a reference."""
  name = reference(results, "filtered") or reference(results, "base")
  mean = st.before(results, name, "retain") if name else None
  return None if mean is None else mean.value


def families(results: Results) -> dict[str, list[str]]:
  """Return the members of each family in the order of the config."""
  members: dict[str, list[str]] = {}
  for name, model in results.models.items():
    if name != reference(results, "base"):
      members.setdefault(model.family or name, []).append(name)
  return members


def cheapest(results: Results) -> list[AtRetain]:
  """Return each family's cheapest member whose retain interval meets the bound."""
  level = bound(results)
  if level is None:
    return []
  rule = AtRetain(rule="cheapest", loss=0.0, level=level)
  return [
    _chosen(
      results,
      dataclasses.replace(rule, family=family),
      _keeping(results, members, level, widths=1),
      lambda name: -rivals.flops(results, name),
    )
    for family, members in families(results).items()
  ]


def most_robust(results: Results, loss: float) -> list[AtRetain]:
  """Return each family's most robust member that loses at most so many points."""
  whole = bound(results)
  if whole is None:
    return []
  level = whole - _sign(results) * loss * _scale(results.metrics["retain"], whole) / 100
  rule = AtRetain(rule="most robust", loss=loss, level=level)
  return [
    _chosen(
      results,
      dataclasses.replace(rule, family=family),
      _keeping(results, members, level, widths=0),
      lambda name: _resistance(results, name),
    )
    for family, members in families(results).items()
  ]


def keeping(results: Results, members: Sequence[str]) -> list[str]:
  """Return the members whose retain interval meets the bound; all without one."""
  level = bound(results)
  return list(members) if level is None else _keeping(results, members, level, widths=1)


def _keeping(
  results: Results, members: Sequence[str], level: float, *, widths: int
) -> list[str]:
  """Return the members that retain so much, give or take widths of their intervals."""
  return [
    name
    for name in members
    if _margin(results, name, level, widths=widths) >= -_ROUNDING
  ]


def _chosen(
  results: Results,
  rule: AtRetain,
  keep: Sequence[str],
  worth: Callable[[str], float],
) -> AtRetain:
  """Return the rule with the member of the most worth among those who keep it."""
  members = families(results)[rule.family]
  margins = [_margin(results, name, 0.0, widths=0) for name in members]
  most = _sign(results) * max(margins)
  return dataclasses.replace(
    rule,
    most_retained=most if math.isfinite(most) else None,
    standing=_standing(results, max(keep, key=worth)) if keep else None,
  )


def _standing(results: Results, name: str) -> Standing:
  budget = resistance.budget(results)
  worst = robust = None
  if budget is not None:
    worst = st.worst_forget(results, name, budget)
    if resistance.is_scaled(results, budget):
      robust = st.robustness_after(results, name, budget)
  return Standing(
    model=name,
    retain=_measured(st.before(results, name, "retain")),
    worst_forget=_measured(worst),
    robustness=_measured(robust),
    flops=rivals.flops(results, name),
    fraction_of_filtered=_measured(st.compute(results, name)),
    directories=tuple(run.directory for run in results.models[name].runs),
  )


def _margin(results: Results, name: str, level: float, *, widths: int) -> float:
  """Return by how much the retain score exceeds a level, so many half-widths added."""
  own = st.before(results, name, "retain")
  if own is None:
    return -math.inf
  gap = _sign(results) * (own.value - level)
  return gap + widths * (own.half_width or 0.0)


def _resistance(results: Results, name: str) -> float:
  """Return the value that models are ranked by; the lowest if one was not attacked."""
  budget = resistance.budget(results)
  mean = None if budget is None else resistance.of(results, name, budget)
  return -math.inf if mean is None else mean.value


def _scale(metric: Metric, level: float) -> float:
  """Return the value of which a point is a hundredth."""
  low, high = metric.range
  return abs(level) if low is None or high is None else high - low


def _measured(mean: Mean | None) -> Measured | None:
  return (
    None if mean is None else Measured(value=mean.value, half_width=mean.half_width)
  )


def _sign(results: Results) -> int:
  return 1 if higher_is_worse(results.metrics["retain"]) else -1
