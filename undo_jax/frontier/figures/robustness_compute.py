"""Robustness against compute, one panel for each budget of the attacker."""

from collections.abc import Iterable
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import style
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import ModelStyle, Point
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import Mean

_LIMITS = (-0.3, 1.3)  # Beyond them points are drawn at the border.


def draw(results: Results) -> Drawing:
  """Draws every model but the base: nothing was removed from it."""
  budgets = rb.budgets(results)
  styles = style.model_styles(results)
  styles.pop(results.references.base or "", None)
  figure = Drawing(figsize=(style.WIDTH, 4.3), layout="constrained")
  panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
  for axes, budget in zip(panels, budgets, strict=True):
    for guide in (0, 1):
      axes.axhline(guide, color="#bbbbbb", linewidth=1, zorder=1)
    points = {
      name: (
        statistics.compute(results, name),
        statistics.robustness_after(results, name, budget),
      )
      for name in styles
    }
    style.scatter(axes, results, points, styles, _point)
    axes.set_title(style.budget_title(budget, budgets))
    axes.set_ylim(_LIMITS)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.set_xlim(min(axes.get_xlim()[0], -0.06), _right(points.values()))
  figure.supxlabel("compute, as a fraction of data filtering", fontsize=10)
  panels[0].set_ylabel("robustness\n(0 unlearned only, 1 data filtering)")
  style.marker_legend(figure, styles.values())
  return figure


def _right(points: Iterable[Point]) -> float:
  """Returns the right end of a compute axis that always shows data filtering at 1."""
  return 1.08 * max([1.0, *(x.value for x, _ in points if x is not None)])


def _point(axes: Axes, x: Mean, y: Mean, look: ModelStyle) -> None:
  """Draws a robustness; one out of the axis is an open arrow head at its border."""
  low, high = _LIMITS
  if low <= y.value <= high:
    style.point(axes, x, y, look)
    return
  marker, edge = ("$\\uparrow$", high) if y.value > high else ("$\\downarrow$", low)
  inside = edge - 0.07 * math.copysign(1, y.value)
  axes.plot(x.value, inside, marker=marker, markersize=11, color=look.color)


FIGURE = Figure(
  draw=draw,
  title="Robustness against compute",
  caption=(
    "Robustness is 0 for unlearning alone and 1 for data filtering. Lines join the "
    "members of a family in the order of what was swept. An arrow at the border stands "
    "for a value out of the axis."
  ),
  needs=("filtered", "unlearned", "attack"),
)
