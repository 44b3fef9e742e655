"""Tables of defenses at equal retention: who stands for each family, and at what."""

from collections.abc import Sequence
import dataclasses
import itertools

from undo_jax.frontier import matched, resistance, warnings
from undo_jax.frontier import statistics as st
from undo_jax.frontier.figures.charts import config_link
from undo_jax.frontier.figures.style import model_styles
from undo_jax.frontier.formats import ABSENT, NOT_ATTACKED, number, share
from undo_jax.frontier.results import AtRetain, Measured, Results, Standing
from undo_jax.frontier.statistics import Mean
from undo_jax.frontier.tables import Row, Table

_NUMBERS = ("retain", "worst forget", "robustness", "compute", "run directory")
_UNDER_ATTACK = ("worst forget", "robustness")


def equal_retain(results: Results) -> Table | None:
  """Return the cheapest member of each family whose retain meets the bound."""
  cheapest = matched.cheapest(results)
  head = ("family", "cheapest member", *_NUMBERS)
  rows = [_row(results, [each]) for each in cheapest]
  return _scaled(results, Table(head, tuple(rows))) if cheapest else None


def by_level(results: Results) -> Table | None:
  """Return the most robust member of each family for each loss of retain.

  Losses at which the same member stands for a family are one row.
  """
  by_loss = [matched.most_robust(results, loss) for loss in matched.LOSSES]
  rows = []
  for of_family in zip(*by_loss, strict=True):
    for _, group in itertools.groupby(of_family, lambda each: _model(each)):
      rows.append(_row(results, list(group), with_loss=True))
  head = ("family", "points lost at most", "most robust member", *_NUMBERS)
  return _scaled(results, Table(head, tuple(rows))) if rows else None


def _scaled(results: Results, table: Table) -> Table:
  """Return a table without robustness, where no references scale it."""
  budget = resistance.budget(results)
  if budget is None or resistance.is_scaled(results, budget):
    return table
  place = table.head.index("robustness")

  def without(items: tuple[str, ...], place: int) -> tuple[str, ...]:
    return (*items[:place], *items[place + 1 :])

  rows = [
    dataclasses.replace(
      row, cells=without(row.cells, place - 1), marks=without(row.marks, place - 1)
    )
    for row in table.rows
  ]
  return Table(without(table.head, place), tuple(rows))


def points(results: Results) -> str:
  """Return what a point is, where it is no hundredth of an accuracy."""
  low, high = results.metrics["retain"].range
  if (low, high) == (0.0, 1.0):
    return ""
  return ", a point being a hundredth of " + (
    "that score" if low is None or high is None else "the metric's range"
  )


def _model(each: AtRetain) -> str | None:
  return each.standing.model if each.standing else None


def _row(results: Results, group: list[AtRetain], *, with_loss: bool = False) -> Row:
  """Return what stands for a family at one level, or at several the same."""
  each, styles = group[0], model_styles(results)
  look = styles[matched.families(results)[each.family][0]]
  losses = (_losses([each.loss for each in group]),) if with_loss else ()
  if each.standing is None:
    most = each.most_retained
    known = "no score" if most is None else f"{most:.3f} at most"
    cells = (f"none keeps it: {known}", *[ABSENT] * len(_NUMBERS))
    link, said = None, ""
  else:
    runs = results.models[each.standing.model].runs
    cells = _numbers(results, each.standing)
    look, link = styles[each.standing.model], config_link(runs[0])
    said = " ".join(
      caution.text
      for caution in warnings.cautions(results)
      if (caution.model, caution.about) == (each.standing.model, "worst")
    )
  of_numbers = [said if name in _UNDER_ATTACK else "" for name in _NUMBERS]
  marks = (*[""] * (1 + len(losses)), *of_numbers)
  cells = (*losses, *cells)
  return Row(each.family, look.method, look.color, cells, look.method, link, marks)


def _numbers(results: Results, standing: Standing) -> tuple[str, ...]:
  """Return the cells of the member that stands for a family."""
  runs = results.models[standing.model].runs
  absent = ABSENT if any(run.attacks for run in runs) else NOT_ATTACKED
  cost = f"{standing.flops:.3g} FLOPs"
  if standing.fraction_of_filtered is not None:
    cost = share(st.compute(results, standing.model))
  directory = runs[0].directory.rpartition("/")[2]
  return (
    model_styles(results)[standing.model].label,
    number(_mean(standing.retain)),
    number(_mean(standing.worst_forget)) if standing.worst_forget else absent,
    number(_mean(standing.robustness), digits=2) if standing.robustness else absent,
    cost,
    directory if len(runs) == 1 else f"{directory} and {len(runs) - 1} more",
  )


def _mean(measured: Measured | None) -> Mean | None:
  return measured and Mean(measured.value, measured.half_width, ())


def _losses(losses: Sequence[float]) -> str:
  """Return "2" or "0 to 2"."""
  first, last = f"{losses[0]:g}", f"{losses[-1]:g}"
  return first if first == last else f"{first} to {last}"
