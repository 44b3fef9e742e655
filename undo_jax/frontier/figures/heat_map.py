"""Tables of scores as colored cells: a row a model, panels side by side."""

from collections.abc import Iterable, Sequence
import json
import math

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier.figures import charts
from undo_jax.frontier.figures.charts import Row, Spec
from undo_jax.frontier.figures.style import STEPS, ModelStyle
from undo_jax.frontier.results import Metric

_ROW = 21  # Pixels.
_NARROWEST, _WIDEST = 14, 84  # Pixels of a cell.
_LEGIBLE = 34  # Those that a number fits in.
_GAP = 12
_SPARE = 14  # Pixels by which a browser may write a label longer than estimated.


def cell(value: float | None, metric: Metric, extent: tuple[float, float]) -> Row:
  """Return the fields of a cell: its shade, and the ink that is read on it.

  More capable is darker on a white page, brighter on a black one.
  """
  if value is None or not math.isfinite(value):
    return {"fill": "var(--grid)", "ink": "var(--muted)"}
  low, high = extent
  place = (value - low) / (high - low) if high > low else 0.0
  place = place if higher_is_worse(metric) else 1 - place
  shade = min(STEPS - 1, max(0, math.floor(place * STEPS)))
  return {"fill": f"var(--s{shade})", "ink": f"var(--on{shade})"}


def extent(values: Iterable[float], metric: Metric) -> tuple[float, float]:
  """Return the ends of the scale: the metric's range, or of the values."""
  low, high = metric.range
  if low is not None and high is not None:
    return low, high
  values = list(values)
  return min(values, default=0.0), max(values, default=1.0)


def draw(
  panels: Sequence[tuple[str | None, Sequence[str], list[Row]]],
  styles: Sequence[ModelStyle],
  width: int,
  *,
  axis_titles: Sequence[str | None],
  tooltip: list[Spec],
) -> Spec:
  """Draw panels that share the names of their rows.

  Args:
    panels: title, columns in their order, and cells with the fields of `cell`,
      "column", "text", "model", "method" and "edge", the opacity of their outline.
    styles: of the models, in the order of their rows.
    width: of the figure.
    axis_titles: what the columns of each panel are.
    tooltip: what a hover shows.
  """
  names = [style.label for style in styles]
  narrow = charts.is_narrow(width)
  limit = 108 if narrow else 200
  longest = min(limit, 12 + round(max(map(charts.text_width, names), default=0.0)))
  per_row, step = _fit(panels, width - longest - 20)
  shown = []
  for index, (title, order, cells) in enumerate(panels):
    axis = {"labelLimit": limit} | _shortened(styles, limit)
    axis = axis if index % per_row == 0 else {"labels": False}
    rows = charts.raw("model", sort=names, title=None, axis=axis)
    across = {"labelAngle": _angle(order, step), "labelLimit": 110, "orient": "top"}
    title_of = axis_titles[index]
    column = charts.raw("column", sort=list(order), title=title_of, axis=across)
    size = {"width": {"step": step}, "height": {"step": _ROW}}
    layers = _layers({"x": column, "y": rows}, tooltip, legible=step >= _LEGIBLE)
    if index == 0:
      layers[0]["params"] = [charts.chosen()]
    head = {"text": title or "", "limit": max(120, step * len(order))}
    shown.append({"title": head, **size, "data": {"values": cells}, "layer": layers})
  spacing = {"row": 20, "column": _GAP}
  return {"concat": shown, "columns": per_row, "spacing": spacing}


def _shortened(styles: Sequence[ModelStyle], limit: int) -> Spec:
  """Return how an axis writes labels that are too long: with their ends, "UNDO… 0.3".

  A cut at the end would leave the members of a sweep with one name.
  """
  short = {
    style.label: text
    for style in styles
    if (text := shortened(style, limit - _SPARE)) != style.label
  }
  if not short:
    return {}
  return {"labelExpr": f"{json.dumps(short)}[datum.label] || datum.label"}


def shortened(style: ModelStyle, limit: int) -> str:
  """Return a label of at most so many pixels; of a sweep's member the value stays."""
  if charts.text_width(style.label) <= limit or not style.value:
    return style.label
  tail, head = f"… {style.value}", style.method
  while len(head) > 1 and charts.text_width(head + tail) > limit:
    head = head[:-1]
  return head.rstrip(" ,") + tail


def _fit(
  panels: Sequence[tuple[str | None, Sequence[str], list[Row]]], room: int
) -> tuple[int, int]:
  """Return how many panels stand side by side, and the width of their cells."""
  columns = max(len(columns) for _, columns, _ in panels)
  title = 1.15 * max(charts.text_width(title or "") for title, _, _ in panels)
  for per_row in range(len(panels), 1, -1):
    each = room // per_row - _GAP
    step = min(_WIDEST, each // columns)
    if step >= _NARROWEST and title <= each:
      return per_row, step
  return 1, max(_NARROWEST, min(_WIDEST, room // columns))


def _angle(labels: Iterable[str], step: int) -> int:
  """Return how labels over columns are turned, in degrees, so that they fit."""
  longest = max(map(charts.text_width, labels), default=0.0)
  return 0 if longest <= step else -35 if step >= _LEGIBLE else -90


def _layers(axes: Spec, tooltip: list[Spec], *, legible: bool) -> list[Spec]:
  flat = {"paddingInner": 0, "paddingOuter": 0}
  axes = {name: {**axis, "scale": flat} for name, axis in axes.items()}
  faded = {"opacity": charts.highlighted()}
  paint = {**axes, "fill": charts.raw("fill", scale=None), "tooltip": tooltip, **faded}
  rim = {**axes, "strokeOpacity": charts.number("edge", scale=None)}
  ink = {**axes, "text": charts.raw("text"), "color": charts.raw("ink", scale=None)}
  ink |= faded
  look = {"stroke": "var(--paper)", "strokeWidth": 1.5, "cornerRadius": 3}
  edge = {"filled": False, "stroke": "var(--ink)", "strokeWidth": 1.8}
  return [
    charts.layer("rect", paint, **look),
    charts.layer("rect", rim, only="datum.edge > 0", cornerRadius=3, **edge),
    *([charts.layer("text", ink, fontSize=11)] if legible else []),
  ]
