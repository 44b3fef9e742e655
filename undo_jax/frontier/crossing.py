"""The cheapest model that is as robust as data filtering.

For each seed a model's worst forget score after a budget is compared with that of
references.filtered. With d the mean difference, positive if the model is less capable,
and h the half-width of its 95 % interval (0 for a single seed):

  meets   d + h >= 0, it is not known to be less robust
  keeps   its retain interval reaches data filtering's retain score, as matched.py says

The crossings are the cheapest model that meets, and the cheapest that both meets and
keeps; broken models and filtering at other lengths are left out.
"""

import dataclasses

from undo_jax.frontier import matched, rivals
from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics as st
from undo_jax.frontier.figures.charts import config_link
from undo_jax.frontier.figures.style import budget_title, model_styles
from undo_jax.frontier.formats import ABSENT, number, share
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import Mean, reference
from undo_jax.frontier.tables import Row, Table


@dataclasses.dataclass(frozen=True)
class Crossing:
  """The cheapest model that resists as data filtering does after a budget."""

  budget: int
  keeps: bool  # Of those that retain as much, or of all.
  model: str | None  # None: there is none.
  ahead: Mean | None = None  # By how much its forget score is less capable.


def crossings(results: Results) -> list[Crossing]:
  """Return the crossings of each budget, of all models and of those that retain.

  Empty where there is no data filtering, or it was not attacked.
  """
  filtered = reference(results, "filtered")
  rows: list[Crossing] = []
  for budget in rb.budgets(results) if filtered else ():
    if filtered and st.worst_forget(results, filtered, budget):
      rows += [_crossing(results, filtered, budget, keeps) for keeps in (False, True)]
  return rows


def table(results: Results) -> Table | None:
  """Return the crossings as rows; None where there are none."""
  rows = crossings(results)
  if not any(each.model for each in rows):
    return None
  head = (
    "after",
    "that retain",
    "cheapest model",
    "retain",
    "worst forget",
    "data filtering's",
    "ahead by",
    "compute of full filtering",
    "of filtering that retains as much",
  )
  return Table(head, tuple(_row(results, each) for each in rows))


def _crossing(results: Results, filtered: str, budget: int, keeps: bool) -> Crossing:
  ahead = {
    name: _ahead(results, name, filtered, budget) for name in _others(results, filtered)
  }
  kept = matched.keeping(results, list(ahead))
  meeting = [
    name
    for name, mean in ahead.items()
    if mean is not None
    and mean.value + (mean.half_width or 0.0) >= 0
    and (name in kept if keeps else not st.is_broken(results, name))
  ]
  if not meeting:
    return Crossing(budget, keeps, None)
  cheapest = min(meeting, key=lambda name: rivals.flops(results, name))
  return Crossing(budget, keeps, cheapest, ahead[cheapest])


def _others(results: Results, filtered: str) -> list[str]:
  """Return the models that are neither the base nor filtering of any length."""
  left_out = {filtered, reference(results, "base"), *st.filtered_models(results)}
  return [name for name in results.models if name not in left_out]


def _ahead(results: Results, name: str, filtered: str, budget: int) -> Mean | None:
  margins = rivals.margins(results, name, filtered, budget)
  return st.mean(margins) if margins else None


def _row(results: Results, each: Crossing) -> Row:
  title = budget_title(each.budget, rb.budgets(results))
  which = "as much" if each.keeps else "anything"
  if each.model is None:
    cells = (which, "none", *[ABSENT] * 6)
    return Row(title, title, "transparent", cells)
  style = model_styles(results)[each.model]
  filtered = reference(results, "filtered") or ""
  full = st.compute(results, each.model)
  equal = st.compute_at_equal_retain(results, each.model)
  cells = (
    which,
    style.label,
    number(st.before(results, each.model, "retain")),
    number(st.worst_forget(results, each.model, each.budget)),
    number(st.worst_forget(results, filtered, each.budget)),
    number(each.ahead),
    ABSENT if full is None else share(full),
    ABSENT if equal is None else share(equal),
  )
  link = config_link(results.models[each.model].runs[0])
  return Row(title, title, style.color, cells, style.method, link)
