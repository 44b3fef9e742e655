"""Parts of charts, as specifications of Vega-Lite: layers, panels, points, a legend.

Rows are plain records; their field "method" is what choosing in a legend highlights,
and "config" where a click leads.
"""

from collections.abc import Iterable, Mapping, Sequence
import textwrap
from typing import Any, TypeAlias
from urllib.parse import quote

from undo_jax.frontier.figures.shapes import GROWTH, SHAPES
from undo_jax.frontier.figures.style import ModelStyle
from undo_jax.frontier.formats import significant
from undo_jax.frontier.results import Metric, ModelRun, Results
from undo_jax.frontier.statistics import Mean

Row: TypeAlias = dict[str, Any]
Spec: TypeAlias = dict[str, Any]
# True on the page, False in a file: what is only there to be pointed at is left out.
HOVER = "hover"
_NARROW = 600  # Pixels; a chart of less has one column.
BESIDE = 62  # Pixels that the axis of the first panel takes, and a rim.
_GAP = 18  # Pixels between panels.
_NARROW_LETTERS, _WIDE_LETTERS = set("fijlrtI()[]|.,:;'! "), set("mwMWGOQ@%+=−±…")
_LINE = 20  # Pixels of a line of it.


def text_width(text: str) -> float:
  """Return about how many pixels a text of the charts' size takes."""
  narrow = sum(letter in _NARROW_LETTERS for letter in text)
  wide = sum(letter in _WIDE_LETTERS for letter in text)
  return 3.6 * narrow + 9.0 * wide + 6.7 * (len(text) - narrow - wide)


def is_narrow(width: int) -> bool:
  """Whether a width is a phone's."""
  return width < _NARROW


def columns(count: int, width: int, *, most: int = 3) -> int:
  """Return how many panels stand side by side."""
  return 1 if is_narrow(width) else max(1, min(count, most))


def panel_width(width: int, columns: int, *, beside: int = BESIDE) -> int:
  """Return the width of a panel inside of its axes; the first alone has labels."""
  return (width - beside - (columns - 1) * _GAP) // columns


def panels(charts: Sequence[Spec], columns: int) -> Spec:
  """Return panels in rows of so many columns, whose axes are their own."""
  spacing = {"row": 24, "column": _GAP}
  return {"concat": list(charts), "columns": columns, "spacing": spacing}


def below(first: Spec, *others: Spec) -> Spec:
  """Return charts one below the other."""
  return {"vconcat": [first, *others], "spacing": 16}


def layer(
  mark: str,
  encoding: Mapping[str, Any],
  *,
  rows: Iterable[Row] | None = None,
  only: str | None = None,
  **look: Any,
) -> Spec:
  """Return one layer of a chart.

  Args:
    mark: of Vega-Lite.
    encoding: channels by name.
    rows: its data; None: those of the chart that it is a layer of.
    only: an expression that rows must satisfy.
    look: other properties of the mark.
  """
  # The chart as a whole has its words, and tables hold its numbers.
  look = {"type": mark, "aria": False, **look}
  spec: Spec = {"mark": look, "encoding": dict(encoding)}
  if rows is not None:
    spec["data"] = {"values": list(rows)}
  if only is not None:
    spec["transform"] = [{"filter": only}]
  return spec


def raw(field: str, **more: Any) -> Spec:
  """Return a channel whose field holds what is shown: a color, a shape, a text."""
  return {"field": field, "type": "nominal", **more}


def number(field: str, **more: Any) -> Spec:
  """Return a channel of numbers."""
  return {"field": field, "type": "quantitative", **more}


def chosen() -> Spec:
  """Return the parameter of the method that is clicked on, one a chart."""
  return {"name": "method", "select": {"type": "point", "fields": ["method"]}}


def highlighted(opacity: float = 1.0) -> Spec:
  """Return an opacity that fades what is of another method than the chosen one."""
  return {
    "condition": {"param": "method", "value": opacity},
    "value": round(0.08 * opacity, 4),
  }


def tooltips(**titles: str) -> list[Spec]:
  """Return what a hover shows: fields by their titles."""
  return [raw(field, title=title) for field, title in titles.items()]


def looks(opacity: float = 1.0) -> Spec:
  """Return the channels by which points look as their rows say."""
  return {
    "fill": raw("color", scale=None),
    "shape": raw("shape", scale=None),
    "size": number("size", scale=None),
    "href": raw("config"),
    "opacity": highlighted(opacity),
  }


def legend(styles: Iterable[ModelStyle], width: int, *, beside: int = BESIDE) -> Spec:
  """Return a chart that is the legend of methods; a click there chooses one.

  A sweep has a marker for each of its members, from the first to the last.
  """
  members: dict[str, list[ModelStyle]] = {}
  for style in styles:
    members.setdefault(style.method, []).append(style)
  markers, texts = [], []
  left, line, right = 0.0, 0, width - beside
  for method, of in members.items():
    text = method if len(of) == 1 else f"{method} {_span(of)}"
    text = text if len(text) <= 40 else text[:39] + "…"
    taken = 10.0 * len(of) + text_width(text) + 30
    if left > 0 and left + taken > right + 16:
      left, line = 0.0, line + 1
    for index, style in enumerate(of):
      markers.append(of_model(style) | {"x": left + 7 + 10.0 * index, "y": line})
    place = {"x": left + 10.0 * len(of) + 8, "y": line}
    texts.append({"method": method, "text": text, **place})
    left += taken
  x = number("x", scale={"domain": [0, right], "nice": False}, axis=None)
  y = number("y", scale={"domain": [line + 0.5, -0.5], "nice": False}, axis=None)
  marks = looks()
  del marks["href"]
  opacity = {**highlighted(), "value": 0.35}
  return {
    "width": right,
    "height": _LINE * (line + 1),
    "layer": [
      layer(
        "point",
        {**marks, "x": x, "y": y, "opacity": opacity},
        rows=markers,
        strokeWidth=0,
        cursor="pointer",
      )
      | {"params": [chosen()]},
      layer(
        "text",
        {"x": x, "y": y, "text": raw("text"), "opacity": opacity},
        rows=texts,
        align="left",
        limit=right - 30,
        fontSize=12,
        cursor="pointer",
      ),
    ],
  }


def _span(styles: Sequence[ModelStyle]) -> str:
  """Return the first and the last value of a sweep."""
  return f"{styles[0].value} – {styles[-1].value}" if styles[0].value else ""


def of_model(style: ModelStyle) -> Row:
  """Return the fields that a row has by its model."""
  return {
    "model": style.label,
    "method": style.method,
    "color": style.color,
    "shape": style.shape,
    "size": _size(style.shape),
  }


def of_run(run: ModelRun) -> Row:
  """Return the fields that a row has by its run."""
  return {
    "seed": str(run.seed),
    "run": run.directory,
    "config": config_link(run),
  }


def of_runs(runs: Sequence[ModelRun], *, link: bool = True) -> Row:
  """Return the same of the mean of several seeds, which no one directory holds."""
  if len(runs) == 1:
    row = of_run(runs[0])
    return row if link else {key: row[key] for key in ("seed", "run")}
  seeds = ", ".join(str(run.seed) for run in runs)
  directories = ", ".join(run.directory for run in runs)
  return {"seed": f"mean of {seeds}", "run": directories}


def config_link(run: ModelRun) -> str:
  """Return where a run's config is; the page has directories relative to itself."""
  return f"{quote(run.directory)}/config.json"


def interval(mean: Mean, axis: str) -> Row:
  """Return the fields of a mean on an axis: itself and the ends of its interval."""
  half = mean.half_width or 0.0
  return {
    axis: significant(mean.value),
    f"{axis}_low": significant(mean.value - half),
    f"{axis}_high": significant(mean.value + half),
  }


def step_axis(steps: Iterable[int], *, title: str | None) -> Spec:
  """Return an axis of steps on which the first updates, the telling ones, are wide.

  It is linear up to the first positive step and logarithmic after it.
  """
  positive = sorted(step for step in steps if step > 0) or [1]
  decades = (m * 10**k for k in range(9) for m in (1, 2, 5))
  ticks = [0, *(t for t in decades if positive[0] <= t <= positive[-1])]
  scale = {"type": "symlog", "constant": positive[0], "nice": False}
  scale["domain"] = [0, positive[-1]]
  axis = {
    "values": ticks,
    "grid": False,
    "labelOverlap": "greedy",
    "labelSeparation": 5,
  }
  return number("step", title=title, scale=scale, axis=axis)


def wrapped(title: str, letters: int = 40) -> list[str]:
  """Return a title in lines that fit beside a panel; what is in brackets is one."""
  head, bracket, rest = title.partition(" (")
  if not bracket or len(title) <= letters:
    return textwrap.wrap(title, letters)
  return [*textwrap.wrap(head, letters), f"({rest}"]


def score_axis(
  field: str, values: Iterable[float], metric: Metric, *, title: str | None
) -> Spec:
  """Return an axis of a score over its range, or where it has none over the values."""
  values = list(values)
  domain = limits(metric)
  if domain is None:
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.05 * (high - low) or 1.0
    domain = [significant(low - margin), significant(high + margin)]
  scale = {"domain": domain, "nice": False, "clamp": True}
  lines = wrapped(title) if title else None
  return number(field, title=lines, scale=scale, axis={"tickCount": 5})


def without_labels(axis: Spec) -> Spec:
  """Return an axis of a panel that stands beside another with the same axis."""
  shown = {**axis.get("axis", {}), "labels": False, "title": None}
  return {**axis, "axis": shown, "title": None}


def limits(metric: Metric, *, pad: float = 0.03) -> list[float] | None:
  """Return the ends of a score's axis where the metric has a range."""
  low, high = metric.range
  if low is None or high is None:
    return None
  margin = pad * (high - low)
  return [low - margin, high + margin]


def joined(
  results: Results,
  families: Mapping[str, Sequence[str]],
  points: Mapping[str, Row],
) -> list[Row]:
  """Return the points that lines join: of sweeps over one field, in its order.

  A line has the color of the sweep's last member.
  """
  rows = []
  for names in families.values():
    known = [n for n in names if n in points and len(results.models[n].swept) == 1]
    rows += [
      {
        **{key: points[n][key] for key in ("method", "x", "y")},
        "order": order,
        "color": points[known[-1]]["color"],
      }
      for order, n in enumerate(known)
    ]
  return rows


def _size(shape: str) -> int:
  """Return the area of a marker, in square pixels, so that all look as large."""
  name = next((name for name, path in SHAPES.items() if path == shape), "o")
  return round(66 * GROWTH.get(name, 1.0))
