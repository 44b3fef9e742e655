"""The headline in words: which defense resists best at which compute."""

import dataclasses

from undo_jax.frontier import attainment, resistance, rivals
from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics as st
from undo_jax.frontier.figures.style import budget_title, model_styles
from undo_jax.frontier.formats import number, share
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import Mean, reference
from undo_jax.frontier.warnings import cautions

_LONGEST = 7  # Models that are named; of a longer front those that gain the most.


@dataclasses.dataclass(frozen=True)
class Leader:
  """The most robust of the models that cost no more than it."""

  name: str
  label: str
  method: str
  color: str
  cost: str
  robustness: str | None  # None: no references scale it.
  worst: str
  retain: str
  mark: str  # The warnings that its robustness rests on, if any.


@dataclasses.dataclass(frozen=True)
class Headline:
  """The front of cost and robustness after one budget, and how certain it is."""

  when: str  # "after 100 updates".
  leaders: tuple[Leader, ...]  # Cost and robustness ascending; the last resists best.
  least: str | None  # The robustness of the last one's worst seed, of several.
  rival: str | None  # Who comes next.
  overlaps: bool  # Whether its interval and the best one's do.
  broken: int  # How many models were left out, as they lost what they should keep.


def headline(results: Results) -> Headline | None:
  """Return the headline; None where nothing but references was attacked.

  It is that of the largest budget the config names, or of the whole attack. The base
  and data filtering, which is robust by definition, take no part, nor do models that
  lost too much of what they should keep.
  """
  budget = resistance.budget(results)
  if budget is None:
    return None
  scores = _scores(results, budget)
  costs = {name: _cost(results, name) for name in scores}
  if not scores:
    return None
  best = attainment.front((costs[n], scores[n].value) for n in scores)
  front = [
    next(n for n in scores if (costs[n], scores[n].value) == point) for point in best
  ]
  ranked = sorted(scores, key=lambda n: -scores[n].value)
  first, second = scores[ranked[0]], scores[ranked[1]] if len(ranked) > 1 else None
  styles = model_styles(results)
  several = len(first.by_seed) > 1 and resistance.is_scaled(results, budget)
  return Headline(
    when=budget_title(budget, rb.budgets(results)),
    leaders=tuple(_leader(results, name, budget) for name in _shortened(front, scores)),
    least=f"{min(first.by_seed):.2f}" if several else None,
    rival=styles[ranked[1]].label if second else None,
    overlaps=second is not None and _low(first) <= _high(second),
    broken=len(_candidates(results)) - len(_whole(results)),
  )


def _candidates(results: Results) -> list[str]:
  references = {reference(results, "base"), reference(results, "filtered")}
  return [name for name in results.models if name not in references]


def _whole(results: Results) -> list[str]:
  return [n for n in _candidates(results) if not st.is_broken(results, n)]


def _scores(results: Results, budget: int) -> dict[str, Mean]:
  """Return how well models resist: robustness, or the worst score, less is better."""
  known = {name: resistance.of(results, name, budget) for name in _whole(results)}
  return {name: mean for name, mean in known.items() if mean is not None}


def _compute(results: Results, name: str) -> Mean | None:
  return st.compute(results, name) if reference(results, "filtered") else None


def _cost(results: Results, name: str) -> float:
  compute = _compute(results, name)
  return rivals.flops(results, name) if compute is None else compute.value


def _leader(results: Results, name: str, budget: int) -> Leader:
  style, compute = model_styles(results)[name], _compute(results, name)
  scaled = resistance.is_scaled(results, budget)
  robust = st.robustness_after(results, name, budget) if scaled else None
  return Leader(
    name=name,
    label=style.label,
    method=style.method,
    color=style.color,
    cost=f"{rivals.flops(results, name):.2g} FLOPs"
    if compute is None
    else share(compute),
    robustness=None if robust is None else number(robust, digits=2),
    worst=number(st.worst_forget(results, name, budget), digits=2),
    retain=number(st.before(results, name, "retain"), digits=2),
    mark=" ".join(_warned(results, name, budget)),
  )


def _warned(results: Results, name: str, budget: int) -> list[str]:
  """Return the warnings about a model's worst score, or about robustness then."""
  return [
    each.text
    for each in cautions(results)
    if (each.model == name and each.about == "worst")
    or (each.about == "robustness" and each.budget == budget)
  ]


def _shortened(front: list[str], scores: dict[str, Mean]) -> list[str]:
  """Return the last of a front, and before it those that gain the most."""
  gains = {
    name: scores[name].value - scores[before].value
    for before, name in zip(front, front[1:], strict=False)
  }
  kept = sorted(gains, key=lambda name: -gains[name])[: _LONGEST - 1]
  return [name for name in front if name in (front[0], front[-1], *kept)]


def _low(mean: Mean) -> float:
  return mean.value - (mean.half_width or 0.0)


def _high(mean: Mean) -> float:
  return mean.value + (mean.half_width or 0.0)
