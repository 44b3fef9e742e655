"""The retain score against the worst forget score, before and under attack."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine

from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import style
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import Point
from undo_jax.frontier.results import Results


def draw(results: Results) -> Drawing:
  """Draws a panel before the attack, and one for each budget of the attacker."""
  budgets = rb.budgets(results)
  styles = style.model_styles(results)
  figure, panels = _panels(1 + len(budgets))
  for axes, budget in zip(panels, (None, *budgets), strict=True):
    points = {name: _scores(results, name, budget) for name in styles}
    style.scatter(axes, results, points, styles)
    is_before = budget is None
    axes.set_title(
      "before the attack" if is_before else style.budget_title(budget, budgets)
    )
    axes.margins(0.08)
    style.limit(axes, results.metrics["forget"], pad=0.06)
  retain, forget = (results.metrics[name] for name in ("retain", "forget"))
  figure.supxlabel(style.axis_label("retain score", retain), fontsize=10)
  figure.supylabel(style.axis_label("worst forget score", forget), fontsize=10)
  style.marker_legend(figure, styles.values())
  return figure


def _panels(count: int) -> tuple[Drawing, list[Axes]]:
  """Returns a figure with panels in two columns."""
  rows = math.ceil(count / 2)
  layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.04)
  figure = Drawing(figsize=(style.WIDTH, 1.4 + 2.9 * rows), layout=layout)
  grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
  for unused in grid[count:]:
    unused.remove()
    grid[count - 2].xaxis.set_tick_params(labelbottom=True)
  return figure, list(grid[:count])


def _scores(results: Results, name: str, budget: int | None) -> Point:
  """Returns a model's retain score, and its worst forget score."""
  if budget is None:
    retain = statistics.before(results, name, "retain")
    return retain, statistics.before(results, name, "forget")
  retain = statistics.retain_under(results, name, budget)
  return retain, statistics.worst_forget(results, name, budget)


FIGURE = Figure(
  draw=draw,
  title="Retain against forget",
  caption=(
    "Before the attack and under it; the retain score is that of the run with the "
    "worst forget score. Lines join the members of a family in the order of what was "
    "swept."
  ),
)
