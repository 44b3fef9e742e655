"""The retain score against the worst forget score, before and under attack."""

from collections.abc import Iterable, Mapping

from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import charts, style
from undo_jax.frontier.figures.charts import Row, Spec
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import ModelStyle
from undo_jax.frontier.formats import number, significant
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import Mean

_BESIDE = 80  # Pixels beside panels: of the axis, whose title has two lines.


def draw(results: Results, width: int) -> Spec:
  """Draw a panel before the attack, and one for each budget of the attacker."""
  styles = style.model_styles(results)
  budgets = rb.budgets(results)
  stages = (None, *budgets)
  points = {
    budget: {
      name: point
      for name in styles
      if (point := _point(results, name, styles[name], budget)) is not None
    }
    for budget in stages
  }
  columns = charts.columns(len(stages), width, most=4)
  size = {"width": charts.panel_width(width, columns, beside=_BESIDE), "height": 270}
  axes = _axes(results, [row for of in points.values() for row in of.values()])
  panels = []
  for index, budget in enumerate(stages):
    y = axes["y"] if index % columns == 0 else charts.without_labels(axes["y"])
    title = (
      "before the attack" if budget is None else style.budget_title(budget, budgets)
    )
    seeds = [
      row for n in points[budget] for row in _seeds(results, n, styles[n], budget)
    ]
    trails = _trails(points[None], points[budget]) if budget is not None else []
    panel = _panel(results, points[budget], seeds, trails, {"x": axes["x"], "y": y})
    panels.append({"title": title, **size, **panel})
  legend = charts.legend(styles.values(), width, beside=_BESIDE)
  return charts.below(legend, charts.panels(panels, columns))


def scores(
  results: Results, name: str, budget: int | None
) -> tuple[Mean | None, Mean | None]:
  """Return a model's retain score, and its worst forget score; None: before."""
  if budget is None:
    retain = statistics.before(results, name, "retain")
    return retain, statistics.before(results, name, "forget")
  retain = statistics.retain_under(results, name, budget)
  return retain, statistics.worst_forget(results, name, budget)


def _point(
  results: Results, name: str, look: ModelStyle, budget: int | None
) -> Row | None:
  retain, forget = scores(results, name, budget)
  if retain is None or forget is None:
    return None
  return {
    **charts.of_model(look),
    **charts.of_runs(results.models[name].runs),
    **charts.interval(retain, "x"),
    **charts.interval(forget, "y"),
    "retain": number(retain),
    "forget": number(forget),
    "several": len(results.seeds) > 1,
  }


def _seeds(
  results: Results, name: str, look: ModelStyle, budget: int | None
) -> list[Row]:
  retain, forget = scores(results, name, budget)
  runs = results.models[name].runs
  if retain is None or forget is None or len(runs) == 1:
    return []
  return [
    {
      **charts.of_model(look),
      **charts.of_run(run),
      "x": significant(x),
      "y": significant(y),
      "retain": f"{x:.3f}",
      "forget": f"{y:.3f}",
    }
    for run, x, y in zip(runs, retain.by_seed, forget.by_seed, strict=True)
  ]


def _trails(before: Mapping[str, Row], after: Mapping[str, Row]) -> list[Row]:
  """Return the ways from before the attack to under it, two rows each."""
  fields = ("model", "method", "color", "x", "y")
  return [
    {**{key: point[key] for key in fields}, "order": order}
    for name in after
    if name in before
    for order, point in enumerate((before[name], after[name]))
  ]


def _axes(results: Results, rows: Iterable[Row]) -> Spec:
  rows = list(rows)
  retain, forget = (results.metrics[name] for name in ("retain", "forget"))
  high = [row[key] for row in rows for key in ("y_low", "y_high")]
  label = style.axis_label("worst forget score", forget)
  x = charts.number(
    "x",
    title=charts.wrapped(style.axis_label("retain score", retain), 40),
    # An interval that is longer than the axis ends with it.
    scale={"zero": False, "nice": True, "padding": 10, "clamp": True},
    axis={"grid": False, "tickCount": 4, "labelOverlap": "greedy"},
  )
  x["scale"]["domain"] = _domain([row["x"] for row in rows])
  return {"x": x, "y": charts.score_axis("y", high, forget, title=label)}


def _domain(values: list[float]) -> list[float]:
  """Return the ends of the values, never closer than a twentieth."""
  low, high = min(values, default=0.0), max(values, default=1.0)
  room = max(0.0, 0.05 - (high - low)) / 2
  return [significant(low - room), significant(high + room)]


def _panel(
  results: Results,
  points: Mapping[str, Row],
  seeds: list[Row],
  trails: list[Row],
  axes: Spec,
) -> Spec:
  stroke = {"stroke": charts.raw("color", scale=None)}
  hover = charts.tooltips(
    model="model", seed="seed", retain="retain", forget="worst forget", run="run"
  )
  path = {**axes, **stroke, "order": charts.number("order")}
  trail = {**path, "detail": charts.raw("model"), "opacity": charts.highlighted(0.3)}
  family = {**path, "detail": charts.raw("method"), "opacity": charts.highlighted(0.6)}
  bar = {**axes, **stroke, "opacity": charts.highlighted(0.6)}
  up = {"y": {**axes["y"], "field": "y_low"}, "y2": {"field": "y_high"}}
  along = {"x": {**axes["x"], "field": "x_low"}, "x2": {"field": "x_high"}}
  look = {**axes, **charts.looks(), "tooltip": hover}
  dot = {**axes, **charts.looks(0.45), "tooltip": hover}
  dot |= {"size": {"value": 14}, "shape": {"value": "circle"}}
  lines = charts.joined(results, style.families(results), points)
  return {
    "data": {"values": [*points.values()]},
    "layer": [
      charts.layer("line", trail, rows=trails, strokeWidth=1, strokeDash=[2, 2]),
      charts.layer("line", family, rows=lines, strokeWidth=1.5),
      charts.layer("rule", bar | up, only="datum.several", strokeWidth=1.2),
      charts.layer("rule", bar | along, only="datum.several", strokeWidth=1.2),
      charts.layer("point", dot, rows=seeds, strokeWidth=0),
      charts.layer("point", look, stroke="var(--paper)", strokeWidth=0.8),
    ],
  }


FIGURE = Figure(
  draw=draw,
  title="Retain against forget",
  caption=(
    "Before the attack and under it; the retain score is that of the run with the "
    "worst forget score. Dotted lines lead from where a model stood before; solid ones "
    "join the members of a sweep in its order."
  ),
)
