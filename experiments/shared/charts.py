"""Charts of series over an axis, and grids of pictures, as SVG files in one style.

A row is a record with "series", "x", "y" and, where there is a band, "low" and "high".
"""

from collections.abc import Iterable, Mapping, Sequence
import json
from typing import Any, Literal

import numpy as np

from undo_jax.frontier.figures import charts, render
from undo_jax.frontier.figures.charts import Row, Spec
from undo_jax.frontier.figures.colors import PALETTE

Kind = Literal["linear", "log", "symlog"]
_WHITE_PAGE = {"ink": "#1b1b1f", "muted": "#5b5b66", "grid": "#e7e7ec"}


def rows(
  series: str,
  x: Iterable[float],
  y: Iterable[float],
  low: Iterable[float] | None = None,
  high: Iterable[float] | None = None,
) -> list[Row]:
  """Return the rows of one series, with a band where both of its ends are given."""
  made = [
    {"series": series, "x": float(one), "y": float(other)}
    for one, other in zip(x, y, strict=True)
  ]
  if low is not None and high is not None:
    for row, bottom, top in zip(made, low, high, strict=True):
      row |= {"low": float(bottom), "high": float(top)}
  return made


def panel(
  data: Sequence[Row],
  *,
  x: str,
  y: str,
  title: str,
  scales: tuple[Kind, Kind] = ("linear", "linear"),
  points: Sequence[str] = (),
  levels: Sequence[float] = (),
  width: int = 430,
  height: int = 270,
) -> Spec:
  """Return a chart of one or several series, the same colors in every panel.

  Args:
    data: rows; legend and colors have the order of the series in them.
    x: title of the axis.
    y: title of the axis.
    title: of the chart.
    scales: of x and of y.
    points: series that are drawn as points; the others are lines.
    levels: values of y at which a dashed line is drawn.
    width: of the area inside the axes, in pixels.
    height: of the same area.
  """
  names = list(dict.fromkeys(row["series"] for row in data))
  encoding = {
    "x": _axis("x", x, scales[0]),
    "y": _axis("y", y, scales[1]),
    "color": colors("series", names),
  }
  banded = [row for row in data if "low" in row]
  layers = []
  if banded:
    ends = {"y": encoding["y"] | {"field": "low"}, "y2": {"field": "high"}}
    layers.append(charts.layer("area", encoding | ends, rows=banded, opacity=0.2))
  lines = [row for row in data if row["series"] not in points]
  layers.append(charts.layer("line", encoding, rows=lines, strokeWidth=1.7))
  if points:
    marked = [row for row in data if row["series"] in points]
    layers.append(charts.layer("point", encoding, rows=marked, size=42, opacity=0.9))
  if levels:
    across = [{"y": level} for level in levels]
    rule = {"y": encoding["y"]}
    dashed = {"strokeDash": [4, 3], "color": "var(--muted)"}
    layers.append(charts.layer("rule", rule, rows=across, **dashed))
  return {"width": width, "height": height, "title": title, "layer": layers}


def pictures(
  grid: Mapping[str, Mapping[str, Sequence]],
  shape: Sequence[int],
  *,
  rows: str,
  columns: str,
  title: str,
  size: int = 56,
) -> Spec:
  """Return pictures in rows and columns.

  Args:
    grid: pixels in [0, 255], flat in an image's order, by title of row and column.
    shape: (height, width) or (height, width, 3) of every picture.
    rows: what the titles of the rows stand for.
    columns: what the titles of the columns stand for.
    title: of the chart.
    size: height of a picture on the screen, in pixels.
  """
  height, width = shape[:2]
  gap = max(1, height // 10)  # Whole pixels, since others leave seams.
  step_x, step_y = width + gap, height + gap
  names = list(next(iter(grid.values())))
  pixels = []
  for row, across in enumerate(grid.values()):
    for column, picture in enumerate(across.values()):
      flat = np.asarray(picture, np.uint8).reshape(height * width, -1)
      for index, color in enumerate(np.broadcast_to(flat, (len(flat), 3)).tolist()):
        x, y = step_x * column + index % width, step_y * row + index // width
        shade = "#" + "".join(f"{channel:02x}" for channel in color)
        pixels.append({"x": x, "x2": x + 1, "y": y, "y2": y + 1, "color": shade})
  pixel = size / height
  extent = (step_x * len(names), step_y * len(grid))

  def axis(field: str, end: float, name: str, texts: list[str], step: int) -> Spec:
    at = [step * index + (step - gap) / 2 for index in range(len(texts))]
    labels = f"{json.dumps(texts)}[floor(datum.value / {step})]"
    ticks = {"values": at, "labelExpr": labels, "grid": False, "labelOverlap": False}
    if field == "x":
      ticks |= {"orient": "top", "labelAngle": 0}
    domain = [0, end] if field == "x" else [end, 0]
    scale = {"domain": domain, "nice": False}
    return charts.number(field, title=name, scale=scale, axis=ticks)

  encoding = {
    "x": axis("x", extent[0], columns, names, step_x),
    "x2": {"field": "x2"},
    "y": axis("y", extent[1], rows, list(grid), step_y),
    "y2": {"field": "y2"},
    "color": charts.raw("color", scale=None),
  }
  return {
    "width": round(pixel * extent[0]),
    "height": round(pixel * extent[1]),
    "title": title,
    "layer": [charts.layer("rect", encoding, rows=pixels)],
  }


def svg(panels: Sequence[Spec], *, title: str, description: str) -> bytes:
  """Return panels, two in a row, as an SVG file; equal panels give equal bytes."""
  spec = render.styled(charts.panels(panels, min(2, len(panels))))
  drawn = render.svg(spec, title=title, description=description, name="figure")
  return render.with_colors(drawn, _WHITE_PAGE).encode()


def _axis(field: str, title: str, kind: Kind) -> dict[str, Any]:
  scale: dict[str, Any] = {"type": kind, "zero": False}
  if kind == "symlog":
    scale["constant"] = 1
  axis = {"labelOverlap": "greedy", "tickCount": 6}
  return charts.number(field, title=title, scale=scale, axis=axis)


def colors(field: str, names: Sequence[str]) -> dict[str, Any]:
  """Return a channel of colors with its legend, in the order of the names."""
  shades = [PALETTE[index % len(PALETTE)] for index in range(len(names))]
  legend = {"orient": "bottom", "columns": 3, "title": None, "symbolOpacity": 1}
  scale = {"domain": list(names), "range": shades}
  return charts.raw(field, scale=scale, legend=legend)
