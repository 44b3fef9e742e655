"""Robustness against what it takes: a panel a budget, in it what seeds guarantee."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import math

from undo_jax.frontier import attainment, statistics
from undo_jax.frontier import robustness as rb
from undo_jax.frontier.attainment import Front
from undo_jax.frontier.figures import charts, style
from undo_jax.frontier.figures.charts import Row, Spec
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import ModelStyle
from undo_jax.frontier.formats import number, share, significant
from undo_jax.frontier.results import ModelRun, Results
from undo_jax.frontier.statistics import Mean

_LIMITS = (-0.2, 1.2)  # Beyond them points are arrows at the border.
_LOGARITHMIC = 8.0  # Costs that differ by more than this factor.
_HEIGHT = 310  # Pixels.
_TEXT = (28, 13)  # Pixels that a swept value takes.


@dataclasses.dataclass(frozen=True)
class Price:
  """What robustness is paid in, as a share of something."""

  name: str  # Of the tooltip.
  title: str  # Of the axis.
  mean: Callable[[Results, str], Mean | None]  # Of a model.
  of_run: Callable[[ModelRun], float | None]


COMPUTE = Price(
  name="compute",
  title="compute of data filtering",
  mean=statistics.compute,
  of_run=lambda run: run.compute.fraction_of_filtered,
)


def draw(results: Results, width: int, price: Price = COMPUTE) -> Spec:
  """Draw every model but the base: nothing was removed from it."""
  styles = style.model_styles(results)
  styles.pop(results.references.base or "", None)
  budgets = rb.budgets(results)
  columns = charts.columns(len(budgets), width)
  domain = _domain(results, styles, price)
  size = {"width": charts.panel_width(width, columns), "height": _HEIGHT}
  panels = [
    {
      "title": style.budget_title(budget, budgets),
      **size,
      **_panel(
        results, styles, price, budget, domain, size["width"], not index % columns
      ),
    }
    for index, budget in enumerate(budgets)
  ]
  legend = charts.legend(styles.values(), width)
  return charts.below(legend, charts.panels(panels, columns))


@dataclasses.dataclass(frozen=True)
class Point:
  """What a model costs, and how robust it is."""

  x: Mean
  y: Mean
  by_seed: dict[int, tuple[float, float]]  # Of the seeds that the references have too.
  is_broken: bool  # It lost too much of what it should keep.


def points(
  results: Results, names: Iterable[str], budget: int, price: Price = COMPUTE
) -> dict[str, Point]:
  """Return the points of those models that have both numbers."""
  known = {}
  for name in names:
    x = price.mean(results, name)
    y = statistics.robustness_after(results, name, budget)
    if x is None or y is None:
      continue
    runs = _runs(results, name)
    costs = [price.of_run(run) or 0.0 for run in runs]
    pairs = zip(costs, y.by_seed, strict=True)
    by_seed = dict(zip((run.seed for run in runs), pairs, strict=True))
    known[name] = Point(x, y, by_seed, statistics.is_broken(results, name))
  return known


def _runs(results: Results, name: str) -> list[ModelRun]:
  """Return a model's runs of the seeds that the references have too, in order."""
  others = [{r.seed for r in results.models[n].runs} for n in _ends(results)]
  runs = results.models[name].runs
  return [run for run in runs if all(run.seed in seeds for seeds in others)]


def _ends(results: Results) -> list[str]:
  return [name for name in statistics.endpoints(results) if name is not None]


def fronts(known: Mapping[str, Point]) -> tuple[list[Front], Front]:
  """Return the front of each seed, and that which every seed attains.

  Models that are broken take no part. Where models have no seed in common, there is
  none of single seeds, and of each model its own worst seed counts.
  """
  whole = [point for point in known.values() if not point.is_broken]
  if not whole:
    return [], []
  common = set.intersection(*(set(point.by_seed) for point in whole))
  by_seed = [[point.by_seed[seed] for point in whole] for seed in sorted(common)]
  if not by_seed:
    pairs = [list(zip(*point.by_seed.values(), strict=True)) for point in whole]
    return [], attainment.front((max(x), min(y)) for x, y in pairs)
  each = [attainment.front(of_seed) for of_seed in by_seed]
  return each, attainment.attained(by_seed, len(by_seed))


def _domain(
  results: Results, styles: Mapping[str, ModelStyle], price: Price
) -> tuple[float, float]:
  """Return the ends of the axis of the price; from 0 it is linear."""
  costs = [price.mean(results, name) for name in styles]
  known = [cost for mean in costs if mean is not None for cost in mean.by_seed]
  low, high = min(known, default=0.0), max([1.0, *known])
  if low > 0 and high / low > _LOGARITHMIC:
    return significant(low / 1.6), significant(high * 1.35)
  return 0.0, significant(high * 1.08)


def _places(
  domain: tuple[float, float], width: int
) -> Callable[[Point], tuple[float, float]]:
  """Return where a panel has a point, in pixels."""
  (low, high), scale = domain, _HEIGHT / (_LIMITS[1] - _LIMITS[0])
  if low > 0:
    per_decade = width / math.log10(high / low)
    return lambda it: (
      per_decade * math.log10(max(low, it.x.value) / low),
      scale * it.y.value,
    )
  return lambda it: (width * it.x.value / high, scale * it.y.value)


def _price_axis(domain: tuple[float, float], title: str) -> Spec:
  """Return the axis of the price in percent."""
  decades = (m * 10.0**k for k in range(-9, 3) for m in (1, 3))
  ticks = [significant(t) for t in decades if domain[0] <= t <= domain[1]]
  axis: Spec = {"format": "~%", "labelFlush": True, "grid": False}
  axis |= {"values": ticks} if domain[0] > 0 else {"tickCount": 4}
  scale = {"domain": list(domain), "clamp": True, "nice": False}
  scale["type"] = "log" if domain[0] > 0 else "linear"
  return charts.number("x", title=title, scale=scale, axis=axis)


def _robustness_axis(is_first: bool) -> Spec:
  title = "robustness (0 unlearned alone, 1 data filtering)"
  scale = {"domain": list(_LIMITS), "clamp": True, "nice": False}
  axis = {"values": [0, 0.25, 0.5, 0.75, 1], "format": ".2~f"}
  y = charts.number("y", title=title, scale=scale, axis=axis)
  return y if is_first else charts.without_labels(y)


def _panel(
  results: Results,
  styles: Mapping[str, ModelStyle],
  price: Price,
  budget: int,
  domain: tuple[float, float],
  width: int,
  is_first: bool,
) -> Spec:
  """Draw one budget, from the back to the front."""
  known = points(results, styles, budget, price)
  means = {
    name: _mean_row(results, name, styles[name], known[name], price) for name in known
  }
  labelled = _labelled(known, styles, _places(domain, width))
  for name, row in means.items():
    row["text"] = styles[name].value if name in labelled else ""
  seeds = [
    row
    for name in known
    for row in _seed_rows(results, styles, name, known[name], price)
  ]
  axes = {"x": _price_axis(domain, price.title), "y": _robustness_axis(is_first)}
  guides = charts.layer(
    "rule",
    {"y": axes["y"]},
    rows=[{"y": guide} for guide in (0, 1)],
    color="var(--muted)",
    strokeDash=[2, 3],
    opacity=0.7,
  )
  lines = charts.joined(results, style.families(results), means)
  layers = [*_fronts(known, axes, domain[1]), *_points(axes, lines, seeds, price)]
  return {"data": {"values": [*means.values()]}, "layer": [guides, *layers]}


def _fronts(known: Mapping[str, Point], axes: Spec, end: float) -> list[Spec]:
  """Draw the front of each seed faintly, and boldly what all of them attain."""
  each, guaranteed = fronts(known)
  faint = [row | {"seed": s} for s, f in enumerate(each) for row in _steps(f, end)]
  bold = _steps(guaranteed, end)
  step = {"interpolate": "step-after"}
  ink = {"color": "var(--ink)", **step}
  by_seed = {**axes, "detail": charts.raw("seed")}
  floor = {**axes, "y2": {"datum": _LIMITS[0]}}
  return [
    charts.layer("area", floor, rows=bold, opacity=0.05, **ink),
    charts.layer("line", by_seed, rows=faint, strokeWidth=1, opacity=0.3, **ink),
    charts.layer("line", axes, rows=bold, strokeWidth=1.6, opacity=0.85, **ink),
  ]


def _steps(front: Front, end: float) -> list[Row]:
  """Return the corners of a staircase that goes on to the end of the axis."""
  if not front:
    return []
  corners = [*front, (end, front[-1][1])]
  return [{"x": significant(cost), "y": significant(score)} for cost, score in corners]


def _points(axes: Spec, lines: list[Row], seeds: list[Row], price: Price) -> list[Spec]:
  """Draw families, intervals, seeds and means."""
  stroke = {"stroke": charts.raw("color", scale=None)}
  shown = {name: name for name in ("model", "seed", "robustness", price.name, "run")}
  hover = charts.tooltips(**shown)
  look, dot = charts.looks() | {"tooltip": hover}, charts.looks(0.45)
  family = {
    **stroke,
    "detail": charts.raw("method"),
    "order": charts.number("order"),
    "opacity": charts.highlighted(0.5),
  }
  bar = {**axes, **stroke, "opacity": charts.highlighted(0.6)}
  up = {"y": {**axes["y"], "field": "y_low"}, "y2": {"field": "y_high"}}
  along = {"x": {**axes["x"], "field": "x_low"}, "x2": {"field": "x_high"}}
  dot |= {"size": {"value": 14}, "shape": {"value": "circle"}, "tooltip": hover}
  words = {"text": charts.raw("text"), "opacity": charts.highlighted()}
  hollow = {"fill": charts.raw("fill", scale=None)}
  hollow["stroke"] = charts.raw("rim", scale=None)
  arrow = {key: look[key] for key in ("fill", "href", "opacity", "tooltip")}
  arrow["text"] = charts.raw("arrow")
  several = "datum.several"
  inside, outside = "!datum.arrow", "datum.arrow"
  # A rim of the page's color keeps texts apart from lines.
  rim = {"stroke": "var(--paper)", "strokeWidth": 3, "strokeJoin": "round"}
  beside = {"align": "right", "dx": -7, "dy": -6}
  return [
    charts.layer("line", axes | family, rows=lines, strokeWidth=1.5),
    charts.layer("rule", bar | up, only=several, strokeWidth=1.3),
    charts.layer("rule", bar | along, only=several, strokeWidth=1.3),
    charts.layer("point", axes | dot, rows=seeds, strokeWidth=0),
    charts.layer("point", axes | look | hollow, only=inside, strokeWidth=1),
    charts.layer("text", axes | arrow, only=outside, fontSize=15, fontWeight=600),
    charts.layer("text", axes | words, only=inside, **rim, **beside),
    charts.layer("text", axes | words, only=inside, **beside),
  ]


def _labelled(
  known: Mapping[str, Point],
  styles: Mapping[str, ModelStyle],
  place: Callable[[Point], tuple[float, float]],
) -> set[str]:
  """Return the members of sweeps whose value is written beside their point.

  From the most robust down, those whose text covers no other's.
  """
  ranked = sorted(known, key=lambda name: -known[name].y.value)
  shown: dict[str, tuple[float, float]] = {}
  for name in ranked:
    x, y = place(known[name])
    covers = any(
      abs(x - u) < _TEXT[0] and abs(y - v) < _TEXT[1] for u, v in shown.values()
    )
    if styles[name].value and not covers:
      shown[name] = x, y
  return set(shown)


def _mean_row(
  results: Results, name: str, look: ModelStyle, point: Point, price: Price
) -> Row:
  y = point.y
  above, below = y.value > _LIMITS[1], y.value < _LIMITS[0]
  hollow = {"fill": "var(--paper)", "rim": look.color}
  filled = {"fill": look.color, "rim": "var(--paper)"}
  return {
    **charts.of_model(look),
    **(hollow if point.is_broken else filled),
    **charts.of_runs(results.models[name].runs),
    **charts.interval(point.x, "x"),
    **charts.interval(y, "y"),
    "robustness": number(y, digits=2),
    price.name: share(point.x),
    "several": y.half_width is not None,
    "arrow": "↑" if above else "↓" if below else "",
  }


def _seed_rows(
  results: Results,
  styles: Mapping[str, ModelStyle],
  name: str,
  point: Point,
  price: Price,
) -> list[Row]:
  if len(point.by_seed) == 1:
    return []
  return [
    {
      **charts.of_model(styles[name]),
      **charts.of_run(run),
      "x": significant(point.by_seed[run.seed][0]),
      "y": significant(point.by_seed[run.seed][1]),
      "robustness": f"{point.by_seed[run.seed][1]:.3f}",
      price.name: f"{point.by_seed[run.seed][0]:.3g}",
    }
    for run in results.models[name].runs
    if run.seed in point.by_seed
  ]


FIGURE = Figure(
  draw=draw,
  title="Robustness against compute",
  caption=(
    "Robustness is 0 for unlearning alone and 1 for data filtering. The step line is "
    "what even the worst seed attains within that compute, faint steps are the fronts "
    "of single seeds. Bars are 95 % intervals on both axes, small dots the seeds. "
    "Lines join the members of a sweep, whose shades follow what was swept. An arrow "
    "at the border stands for a value out of the axis. Hollow models lost too much of "
    "what they should keep, and take no part in the fronts."
  ),
  needs=("filtered", "unlearned", "attack"),
)
