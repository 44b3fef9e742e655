"""Figures of a results dict as PNG bytes, drawn without any global pyplot state."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
from functools import partial
import io
import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from undo_jax.frontier import robustness as rb

_UNDO_PREFIX = "undo_alpha_"
# Families of models, by the alpha that follows their prefix: label, shades, marker.
_FAMILIES = {
  _UNDO_PREFIX: ("UNDO α = ", "Blues", "o"),
  "routed_undo_alpha_": ("routed, UNDO α = ", "BuGn", "p"),
  "sgtm_undo_alpha_": ("SGTM, UNDO α = ", "YlGn", "H"),
  "routed_control_undo_alpha_": ("control, UNDO α = ", "Greys", "8"),
  "routed_distillation_alpha_": ("routed distillation α = ", "Purples", "d"),
  "sgtm_distillation_alpha_": ("SGTM distillation α = ", "RdPu", "D"),
}
_WIDTH = 8.0  # Inches; at 800 pixels on the page, 10 points are 14 pixels.
_ROBUSTNESS_LIMITS = (-0.3, 1.3)  # Beyond them points are drawn at the border.
_TIE_COLOR = "#e4e4e4"
_STYLE = {
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


@dataclasses.dataclass(frozen=True)
class ModelStyle:
  """How one model looks in every figure and in the tables."""

  label: str
  color: str  # Hexadecimal.
  marker: str
  line: Any = "-"  # A matplotlib line style: a name or (offset, dashes).
  width: float = 1.8
  size: float = 6.5  # Of the marker, in points.


# Neutral and dashed: references. Warm: unlearning alone. Blue, by alpha: UNDO. Green
# and violet: routed.
_KNOWN = {
  "base": ModelStyle("base", "#111111", "s", (0, (5, 2)), 1.6, 6.5),
  "data_filtering": ModelStyle(
    "data filtering", "#666666", "*", (0, (2, 1)), 2.2, 14.0
  ),
  "max_ent": ModelStyle("MaxEnt", "#b3261e", "^"),
  "grad_diff": ModelStyle("GradDiff", "#ea6a1f", "v"),
  "rmu": ModelStyle("RMU", "#f4ae52", "<"),
  "max_ent_sam": ModelStyle("MaxEnt + SAM", "#d4477f", ">"),
  "max_ent_rep_noise": ModelStyle("MaxEnt + RepNoise", "#7a3b10", "h"),
  "oracle_matching": ModelStyle("oracle matching", "#9c36a8", "D", size=5.5),
  "unlearn_and_distill": ModelStyle("unlearn and distill", "#1f8f4e", "P", size=8.0),
  "data_filtering_labelled": ModelStyle(
    "filtering by labels", "#8d8d8d", "X", (0, (2, 1))
  ),
  "routed": ModelStyle("routed", "#00796b", "p", "-.", size=8.0),
  "routed_control": ModelStyle("routed, control", "#9aa0a6", "8", "-."),
  "sgtm": ModelStyle("SGTM", "#689f38", "H", "-.", size=8.0),
}


def model_styles(names: Iterable[str]) -> dict[str, ModelStyle]:
  """Give every model its label, colour and marker, in the order of display.

  known models, then UNDO and the other families of _FAMILIES by ascending alpha, then
  any other in the order given

  Args:
    names: names of the models.

  Returns:
    Styles by name; iteration order is the order of display.
  """
  names = list(names)
  styles = {name: style for name, style in _KNOWN.items() if name in names}
  for prefix, (label, colors, marker) in _FAMILIES.items():
    family = {name: _alpha(name, prefix) for name in names}
    alphas = {name: alpha for name, alpha in family.items() if alpha is not None}
    shades = matplotlib.colormaps[colors]
    for rank, name in enumerate(sorted(alphas, key=lambda name: alphas[name])):
      # The palest shades would vanish on white.
      shade = 0.42 + 0.58 * (rank / (len(alphas) - 1) if len(alphas) > 1 else 0.7)
      text = label + name.removeprefix(prefix)
      styles[name] = ModelStyle(text, to_hex(shades(shade)), marker, "-", 2.6, 10.0)
  for name in names:
    styles.setdefault(name, ModelStyle(name, "#8a7f5c", "X", "-."))
  return styles


def draw_all(results: Mapping[str, Any]) -> dict[str, bytes]:
  """Draw every figure of the report.

  Args:
    results: the results dict.

  Returns:
    PNG bytes by file name; equal results give equal bytes.
  """
  draw: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "relearning_curves.png": relearning_curves,
    "robustness_compute.png": robustness_compute,
    "retain_forget.png": retain_forget,
    "learning_rates.png": learning_rates,
  }
  return render({name: partial(function, results) for name, function in draw.items()})


def render(draw: Mapping[str, Callable[[], Figure]]) -> dict[str, bytes]:
  """Draw figures in one style.

  Args:
    draw: functions that return a figure, by file name.

  Returns:
    PNG bytes by file name; equal figures give equal bytes.
  """
  style: Any = _STYLE  # matplotlib types the keys of its settings one by one.
  with matplotlib.rc_context(style):
    return {name: _png(function()) for name, function in draw.items()}


def relearning_curves(results: Mapping[str, Any]) -> Figure:
  """Draw the worst-case forget score against relearning updates.

  Args:
    results: the results dict.

  Returns:
    The figure.
  """
  figure = Figure(figsize=(_WIDTH, 4.6), layout="constrained")
  axes = figure.add_subplot()
  styles = model_styles(results["models"])
  for name, style in styles.items():
    relearn = results["models"][name]["relearn"]
    by_seed = results["models"][name].get("by_seed")
    if by_seed:
      worst_SxK = list(zip(*by_seed["worst_forget"], strict=True))
      least_S, greatest_S = (list(map(f, worst_SxK)) for f in (min, max))
      axes.fill_between(
        relearn["steps"],
        least_S,
        greatest_S,
        color=style.color,
        alpha=0.15,
        linewidth=0,
      )
    # References lie on top: they are what the other curves are compared with.
    axes.plot(
      relearn["steps"],
      relearn["worst_forget"],
      color=style.color,
      linestyle=style.line,
      linewidth=style.width,
      zorder=4 if name in ("base", "data_filtering") else 3,
    )
  steps = sorted({s for m in results["models"].values() for s in m["relearn"]["steps"]})
  _step_axis(axes, steps)
  axes.set_xlabel("relearning updates")
  axes.set_ylabel(axis_label("worst forget score", results["metrics"]["forget"]))
  _limit(axes, results["metrics"]["forget"])
  handles = [
    Line2D([], [], color=s.color, linestyle=s.line, linewidth=s.width)
    for s in styles.values()
  ]
  labels = [_plain(s.label) for s in styles.values()]
  figure.legend(handles, labels, loc="outside right upper", handlelength=2.6)
  return figure


def robustness_compute(results: Mapping[str, Any]) -> Figure:
  """Draw robustness against compute, one panel for each budget of the attacker.

  The base model is left out: nothing was removed from it.

  Args:
    results: the results dict.

  Returns:
    The figure.
  """
  budgets = rb.budgets(results)
  styles = model_styles(results["models"])
  styles.pop("base", None)
  figure = Figure(figsize=(_WIDTH, 4.3), layout="constrained")
  panels = figure.subplots(1, len(budgets), sharey=True, squeeze=False)[0]
  for axes, budget in zip(panels, budgets, strict=True):
    for guide in (0, 1):
      axes.axhline(guide, color="#bbbbbb", linewidth=1, zorder=1)
    points = {
      name: (compute_fraction(results, name), robustness_after(results, name, budget))
      for name in styles
    }
    _join_undo(axes, points)
    for name, (x, y) in points.items():
      if x is not None and y is not None:
        _robustness_point(axes, x, y, styles[name])
    axes.set_title(budget_title(budget, budgets))
    axes.set_ylim(_ROBUSTNESS_LIMITS)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.set_xlim(left=min(axes.get_xlim()[0], -0.06), right=_right(points))
  figure.supxlabel("compute, as a fraction of data filtering", fontsize=10)
  panels[0].set_ylabel("robustness\n(0 unlearned only, 1 data filtering)")
  _marker_legend(figure, styles)
  return figure


def retain_forget(results: Mapping[str, Any]) -> Figure:
  """Draw the retain score against the worst forget score, before and after attacks.

  Args:
    results: the results dict.

  Returns:
    The figure.
  """
  budgets = rb.budgets(results)
  styles = model_styles(results["models"])
  stages = (None, *budgets)
  rows = math.ceil(len(stages) / 2)
  figure = Figure(figsize=(_WIDTH, 1.4 + 2.9 * rows), layout="constrained")
  engine: Any = figure.get_layout_engine()
  engine.set(hspace=0.06, wspace=0.04)
  grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
  for unused in grid[len(stages) :]:
    unused.remove()
    grid[1].xaxis.set_tick_params(labelbottom=True)
  for axes, stage in zip(grid, stages, strict=False):
    points = {name: retain_and_forget(results, name, stage) for name in styles}
    _join_undo(axes, points)
    for name, (x, y) in points.items():
      _point(axes, x, y, styles[name])
    title = "before the attack" if stage is None else budget_title(stage, budgets)
    axes.set_title(title)
    axes.margins(0.08)
    _limit(axes, results["metrics"]["forget"], pad=0.06)
  metrics = results["metrics"]
  figure.supxlabel(axis_label("retain score", metrics["retain"]), fontsize=10)
  figure.supylabel(axis_label("worst forget score", metrics["forget"]), fontsize=10)
  _marker_legend(figure, styles)
  return figure


def learning_rates(results: Mapping[str, Any]) -> Figure:
  """Draw which learning rate was the worst for each model at each step.

  Args:
    results: the results dict.

  Returns:
    The figure.
  """
  styles = model_styles(results["models"])
  relearns = {name: results["models"][name]["relearn"] for name in styles}
  rates = sorted({float(r) for v in relearns.values() for r in v["learning_rates"]})
  steps = sorted({s for v in relearns.values() for s in v["steps"] if s > 0})
  colors = _rate_colors(len(rates))
  figure = Figure(figsize=(_WIDTH, 1.3 + 0.27 * len(styles)), layout="constrained")
  axes = figure.add_subplot()
  axes.grid(visible=False)
  cells = [_rate_row(relearns[name], rates, steps) for name in styles]
  axes.pcolormesh(
    cells,
    cmap=ListedColormap([_TIE_COLOR, *colors]),
    norm=BoundaryNorm([i - 1.5 for i in range(len(rates) + 2)], len(rates) + 1),
    edgecolors="#ffffff",
    linewidth=0.6,
  )
  axes.invert_yaxis()
  labels = [_plain(style.label) for style in styles.values()]
  axes.set_yticks([i + 0.5 for i in range(len(styles))], labels)
  every = max(1, math.ceil(len(steps) / 12))
  shown = range(every - 1, len(steps), every)
  axes.set_xticks([i + 0.5 for i in shown], [str(steps[i]) for i in shown])
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  axes.set_xlabel("relearning updates")
  patches = [Patch(facecolor=c, edgecolor="#cccccc") for c in [*colors, _TIE_COLOR]]
  names = [f"{rate:g}" for rate in rates] + ["tie"]
  title = "worst learning rate"
  figure.legend(patches, names, loc="outside right upper", title=title)
  return figure


def axis_label(what: str, metric: Mapping[str, Any]) -> str:
  """Name an axis and say which way capability grows.

  Args:
    what: what is drawn.
    metric: its entry of results["metrics"].

  Returns:
    A label of two lines.
  """
  way = "higher" if rb.higher_is_worse(metric) else "lower"
  return f"{what}, {_plain(metric['unit'])}\n({way}: more capable)"


def budget_title(budget: int, budgets: Sequence[int]) -> str:
  """Name a budget; the last one is the whole attack.

  Args:
    budget: relearning updates.
    budgets: all budgets, ascending.

  Returns:
    "after 20 updates" or "after all 500 updates".
  """
  return f"after {'all ' if budget == budgets[-1] else ''}{budget} updates"


def compute_fraction(results: Mapping[str, Any], name: str) -> float | None:
  """Read a model's compute relative to data filtering, None if it was not counted."""
  return results["models"][name].get("compute", {}).get("fraction_of_data_filtering")


def robustness_after(
  results: Mapping[str, Any], name: str, budget: int
) -> float | None:
  """Compute a model's robustness after a budget from the results dict.

  robustness(score_at(model), score_at(unlearned reference), score_at(data filtering))

  Args:
    results: the results dict.
    name: name of the model.
    budget: relearning updates.

  Returns:
    The robustness; None where the references coincide.
  """
  models = results["models"]
  reference = rb.unlearned_reference(models)
  return rb.robustness(
    rb.score_at(models[name]["relearn"], budget),
    unlearned_score=rb.score_at(models[reference]["relearn"], budget),
    filtered_score=rb.score_at(models["data_filtering"]["relearn"], budget),
  )


def retain_and_forget(
  results: Mapping[str, Any], name: str, budget: int | None
) -> tuple[float, float]:
  """Read a model's retain and worst forget score at a stage of the attack.

  Args:
    results: the results dict.
    name: name of the model.
    budget: relearning updates; None for before the attack.

  Returns:
    The retain score (at the worst learning rate) and the worst forget score.
  """
  model = results["models"][name]
  if budget is None:
    return model["before"]["retain"], model["before"]["forget"]
  relearn = model["relearn"]
  retain = relearn["retain"][rb.step_index(relearn["steps"], budget)]
  return retain, rb.score_at(relearn, budget)


def _alpha(name: str, prefix: str = _UNDO_PREFIX) -> float | None:
  """Parse the alpha of a family's model by its name, None for any other name."""
  if not name.startswith(prefix):
    return None
  try:
    return float(name.removeprefix(prefix))
  except ValueError:
    return None


def _plain(text: str) -> str:
  """Shorten a text and keep matplotlib from reading dollars as mathematics."""
  text = str(text)
  text = text if len(text) <= 32 else text[:31] + "…"
  return text.replace("$", r"\$")


def _png(figure: Figure) -> bytes:
  """Render a figure; without the software entry equal figures are equal bytes."""
  FigureCanvasAgg(figure)
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
  return buffer.getvalue()


def _step_axis(axes: Axes, steps: Sequence[int]) -> None:
  """Scale steps so that the first updates, where most is relearned, are visible."""
  positive = [step for step in steps if step > 0] or [1]
  axes.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
  decades = (m * 10**k for k in range(9) for m in (1, 2, 5))
  ticks = [0, *(t for t in decades if positive[0] <= t <= positive[-1])]
  axes.set_xticks(ticks, [str(tick) for tick in ticks])
  axes.set_xticks([], minor=True)
  axes.set_xlim(0, positive[-1])


def _limit(axes: Axes, metric: Mapping[str, Any], *, pad: float = 0.02) -> None:
  """Fix the y axis to the metric's range where it has one."""
  low, high = metric.get("range") or (None, None)
  if low is not None and high is not None:
    margin = pad * (high - low)
    axes.set_ylim(low - margin, high + margin)


def _right(points: Mapping[str, tuple[float | None, float | None]]) -> float:
  """Return the right end of a compute axis that always shows data filtering at 1."""
  return 1.08 * max([1.0, *(x for x, _ in points.values() if x is not None)])


def _join_undo(
  axes: Axes, points: Mapping[str, tuple[float | None, float | None]]
) -> None:
  """Join the UNDO points by a line, in the order of alpha."""
  joined = [p for name, p in points.items() if _alpha(name) is not None]
  joined = [(x, y) for x, y in joined if x is not None and y is not None]
  if joined:
    x, y = zip(*joined, strict=True)
    axes.plot(x, y, color="#9ecae1", linewidth=1.8, zorder=2)


def _point(axes: Axes, x: float, y: float, style: ModelStyle) -> None:
  """Draw one model as its marker, with a white rim that parts overlapping ones."""
  axes.plot(
    x,
    y,
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


def _robustness_point(axes: Axes, x: float, y: float, style: ModelStyle) -> None:
  """Draw a robustness; one out of the axis is an open arrow head at its border."""
  low, high = _ROBUSTNESS_LIMITS
  if low <= y <= high:
    _point(axes, x, y, style)
    return
  marker, edge = ("$\\uparrow$", high) if y > high else ("$\\downarrow$", low)
  inside = edge - 0.07 * math.copysign(1, y)
  axes.plot(x, inside, marker=marker, markersize=11, color=style.color)


def _marker_legend(figure: Figure, styles: Mapping[str, ModelStyle]) -> None:
  """Put a legend of markers above the panels, away from the shared axis label."""
  handles = [
    Line2D(
      [], [], color=s.color, marker=s.marker, markersize=s.size * 0.9, linestyle="none"
    )
    for s in styles.values()
  ]
  labels = [_plain(s.label) for s in styles.values()]
  columns = 4 if max(map(len, labels)) <= 20 else 2
  figure.legend(
    handles, labels, loc="outside upper center", ncols=columns, handletextpad=0.3
  )


def _rate_colors(count: int) -> list[str]:
  """Return colours with saturated ends, so that the edges of the grid stand out."""
  shades = matplotlib.colormaps["RdYlBu_r"]
  return [to_hex(shades(i / max(1, count - 1))) for i in range(count)]


def _rate_row(
  relearn: Mapping[str, Any], rates: Sequence[float], steps: Sequence[int]
) -> list[float]:
  """Return the index of the worst rate at each step: -1 a tie, NaN not evaluated."""
  evaluated = [step for step in relearn["steps"] if step > 0]
  worst = dict(zip(evaluated, rb.edge_of_grid(relearn).by_step, strict=True))
  return [
    math.nan
    if step not in worst
    else -1
    if worst[step] is None
    else rates.index(worst[step])
    for step in steps
  ]
