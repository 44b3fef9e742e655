"""How models look in every figure and table, and what figures draw alike.

Nothing here touches the global state of pyplot.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import io
from typing import Literal, TypeAlias

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import is_color_like, to_hex, to_rgb
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier.results import Metric, ModelResult, Results
from undo_jax.frontier.statistics import Mean, Role, reference

WIDTH = 8.0  # Inches; at 800 pixels on the page, 10 points are 14 pixels.
STYLE = {
  "font.size": 10,
  "font.family": "DejaVu Sans",
  "axes.edgecolor": "#999999",
  "axes.grid": True,
  "axes.labelcolor": "#222222",
  "axes.spines.right": False,
  "axes.spines.top": False,
  "axes.axisbelow": True,
  "axes.titlesize": 10.5,
  "axes.titlelocation": "left",
  "grid.color": "#e6e6e6",
  "grid.linewidth": 0.8,
  "xtick.color": "#444444",
  "ytick.color": "#444444",
  "legend.frameon": False,
  "legend.fontsize": 9.5,
}
_NEUTRAL, _NEUTRAL_MARKER = "#8a7f5c", "X"
_SIZES = {"*": 14.0, "D": 5.5, "P": 8.0, "p": 8.0, "H": 8.0}  # Of markers, in points.
Line: TypeAlias = Literal["-"] | tuple[int, tuple[int, ...]]  # (offset, dashes).
Point: TypeAlias = tuple[Mean | None, Mean | None]


@dataclasses.dataclass(frozen=True)
class ModelStyle:
  """How one model looks in every figure and in the tables."""

  label: str
  color: str  # Hexadecimal.
  marker: str
  line: Line = "-"
  width: float = 1.8
  size: float = 6.5  # Of the marker, in points.


# References are dashed, by role: line and width.
_REFERENCES: dict[Role, tuple[Line, float]] = {
  "base": ((0, (5, 2)), 1.6),
  "filtered": ((0, (2, 1)), 2.2),
  "unlearned": ((0, (6, 1, 2, 1)), 1.8),
}


def model_styles(results: Results) -> dict[str, ModelStyle]:
  """Returns each model's label, color and marker, in the order of the results.

  The members of a family have shades of its color, darker by what was swept.
  """
  lines = {
    reference(results, role): line
    for role, line in reversed(_REFERENCES.items())  # The first role prevails.
  }
  shades = _shades(results)
  labels = distinct({name: model.label for name, model in results.models.items()})
  styles = {}
  for name, model in results.models.items():
    marker = model.marker if model.marker in Line2D.markers else _NEUTRAL_MARKER
    marker = str(marker)
    line, width = lines.get(name, ("-", 1.8 if name not in shades else 2.6))
    size = 10.0 if name in shades else _SIZES.get(marker, 6.5)
    color = _color(model.color, shades.get(name))
    styles[name] = ModelStyle(labels[name], color, marker, line, width, size)
  return styles


def attack_labels(results: Results) -> dict[str, str]:
  """Returns the label of each attack."""
  return distinct({name: attack.label for name, attack in results.attacks.items()})


def distinct(labels: Mapping[str, str]) -> dict[str, str]:
  """Returns labels by name, those that several share with the name after them."""
  shared = list(labels.values())
  return {
    name: f"{label} ({name})" if shared.count(label) > 1 else label
    for name, label in labels.items()
  }


def families(results: Results) -> dict[str, list[str]]:
  """Returns the members of each family, ascending by what was swept."""
  members: dict[str, list[str]] = {}
  for name, model in results.models.items():
    if model.family is not None:
      members.setdefault(model.family, []).append(name)
  return {
    family: sorted(names, key=lambda name: _order(results.models[name]))
    for family, names in members.items()
  }


def _order(model: ModelResult) -> list[float]:
  """Returns the swept numbers; what is no number keeps the order of the config."""
  values = model.swept.values()
  return [float(v) if isinstance(v, int | float) else 0.0 for v in values]


def _shades(results: Results) -> dict[str, float]:
  """Returns how dark each member of a family is, in [0, 1]."""
  shades = {}
  for names in families(results).values():
    for rank, name in enumerate(names):
      # The palest shades would vanish on white.
      place = rank / (len(names) - 1) if len(names) > 1 else 0.7
      shades[name] = 0.42 + 0.58 * place
  return shades


def _color(color: str | None, shade: float | None) -> str:
  """Returns a colormap's shade, or a color, mixed with white to shade it."""
  is_color = color is not None and is_color_like(color)
  if color in matplotlib.colormaps and not (is_color and shade is None):
    return to_hex(matplotlib.colormaps[str(color)](0.8 if shade is None else shade))
  if color is None or not is_color:
    color = _NEUTRAL
  depth = 1.0 if shade is None else shade
  red, green, blue = (1 - depth * (1 - part) for part in to_rgb(color))
  return to_hex((red, green, blue))


def render(draw: Mapping[str, Callable[[], Drawing]]) -> dict[str, bytes]:
  """Draws figures by file name in one style; equal figures give equal PNG bytes."""
  with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
    return {name: _png(function()) for name, function in draw.items()}


def _png(figure: Drawing) -> bytes:
  """Renders a figure; without the software entry equal figures are equal bytes."""
  FigureCanvasAgg(figure)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
  return buffer.getvalue()


def plain(text: str) -> str:
  """Shortens a text and keeps matplotlib from reading dollars as mathematics."""
  text = text if len(text) <= 32 else text[:31] + "…"
  return text.replace("$", r"\$")


def axis_label(what: str, metric: Metric) -> str:
  """Names an axis and says which way capability grows, in two lines."""
  way = "higher" if higher_is_worse(metric) else "lower"
  return f"{what}, {plain(metric.unit)}\n({way}: more capable)"


def budget_title(budget: int, budgets: Sequence[int]) -> str:
  """Returns "after 20 updates", or of the last budget "after all 500 updates"."""
  return f"after {'all ' if budget == budgets[-1] else ''}{budget} updates"


def limit(axes: Axes, metric: Metric, *, pad: float = 0.02) -> None:
  """Fixes the y axis to the metric's range where it has one."""
  low, high = metric.range
  if low is not None and high is not None:
    margin = pad * (high - low)
    axes.set_ylim(low - margin, high + margin)


def point(axes: Axes, x: Mean, y: Mean, style: ModelStyle) -> None:
  """Draws one model as its marker, with a white rim that parts overlapping ones.

  Of several seeds the intervals are bars behind it, and each seed is a faint dot.
  """
  if x.half_width is not None or y.half_width is not None:
    axes.errorbar(
      x.value,
      y.value,
      xerr=x.half_width,
      yerr=y.half_width,
      color=style.color,
      alpha=0.5,
      elinewidth=1,
      zorder=2,
    )
    axes.plot(
      x.by_seed, y.by_seed, ".", color=style.color, alpha=0.35, markersize=5, zorder=2
    )
  axes.plot(
    x.value,
    y.value,
    marker=style.marker,
    markersize=style.size,
    color=style.color,
    markeredgecolor="#ffffff",
    markeredgewidth=0.7,
    linestyle="none",
    clip_on=False,
    # Small markers on top, so that no model hides another completely.
    zorder=4 - style.size / 100,
  )


def scatter(
  axes: Axes,
  results: Results,
  points: Mapping[str, Point],
  styles: Mapping[str, ModelStyle],
  draw_point: Callable[[Axes, Mean, Mean, ModelStyle], None] = point,
) -> None:
  """Draws the models' points, and a line in the order of each sweep over one field."""
  for name, (x, y) in points.items():
    if x is not None and y is not None:
      draw_point(axes, x, y, styles[name])
  for names in families(results).values():
    joined = [
      points[n] for n in names if n in points and len(results.models[n].swept) == 1
    ]
    known = [(x.value, y.value) for x, y in joined if x is not None and y is not None]
    if known:
      palest = styles[names[0]].color
      axes.plot(*zip(*known, strict=True), color=palest, linewidth=1.8, zorder=2)


def marker_legend(figure: Drawing, styles: Iterable[ModelStyle]) -> None:
  """Puts a legend of markers above the panels, away from the shared axis label."""
  shown = list(styles)
  handles = [
    Line2D(
      [], [], color=s.color, marker=s.marker, markersize=s.size * 0.9, linestyle="none"
    )
    for s in shown
  ]
  labels = [plain(style.label) for style in shown]
  columns = 4 if max(map(len, labels), default=0) <= 20 else 2
  figure.legend(
    handles, labels, loc="outside upper center", ncols=columns, handletextpad=0.3
  )
