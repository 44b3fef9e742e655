"""The worst forget score against relearning updates, of all models and by method."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import charts, style
from undo_jax.frontier.figures.charts import Row, Spec
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import ModelStyle
from undo_jax.frontier.formats import number, significant
from undo_jax.frontier.results import Results
from undo_jax.frontier.statistics import Mean

_BESIDE = 88  # Pixels beside panels: of the axis, and of the markers at the end.
_CROWD = 10  # Models of which one panel is too full to be read.


def draw(results: Results, width: int) -> Spec:
  """Draw the worst case of all; of many models or attacks also a panel a method."""
  styles = style.model_styles(results)
  counted = rb.counted(results)
  curves = {name: _curve(results, name, styles[name], counted) for name in styles}
  curves = {name: row for name, row in curves.items() if row["step"]}
  axes = _axes(results, curves.values())
  first = {
    "width": charts.panel_width(width, 1, beside=_BESIDE),
    "height": 280 if charts.is_narrow(width) else 360,
    **_panel([*curves.values()], axes, of_seeds=len(results.seeds) > 1),
  }
  legend = charts.legend(styles.values(), width, beside=_BESIDE)
  if len(results.attacks) == 1 and len(styles) <= _CROWD:
    return charts.below(legend, first)
  over = [label for n, label in style.attack_labels(results).items() if n in counted]
  title = f"worst case over {', '.join(over)}"
  first["title"] = {"text": title, "limit": first["width"]}
  columns = 2 if charts.is_narrow(width) else 4
  size = {
    "width": charts.panel_width(width, columns, beside=_BESIDE),
    "height": 120 if columns == 2 else 150,
  }
  methods = [
    {"title": {"text": method, "limit": size["width"]}, **size, **of_method}
    for method, of_method in _by_method(results, styles, curves, axes, columns)
  ]
  return charts.below(legend, first, charts.panels(methods, columns))


def _by_method(
  results: Results,
  styles: Mapping[str, ModelStyle],
  curves: Mapping[str, Row],
  axes: Spec,
  columns: int,
) -> Iterable[tuple[str, Spec]]:
  """Draw each method before the references: its envelope, and each attack thinly."""
  references = {results.references.base, results.references.filtered}
  behind = [curves[name] for name in curves if name in references]
  methods: dict[str, list[str]] = {}
  for name in curves:
    methods.setdefault(styles[name].method, []).append(name)
  methods = {m: names for m, names in methods.items() if not references & set(names)}
  for index, (method, names) in enumerate(methods.items()):
    attacks = [
      _level(_curve(results, name, styles[name], (attack,)), curves[name])
      | {"attack": label}
      for attack, label in style.attack_labels(results).items()
      for name in names
    ]
    thin = [row for row in attacks if row["step"]] if len(results.attacks) > 1 else []
    y = axes["y"] if index % columns == 0 else charts.without_labels(axes["y"])
    of_method = {"x": {**axes["x"], "title": None}, "y": {**y, "title": None}}
    yield (
      method,
      _panel([curves[n] for n in names], of_method, behind=behind, thin=thin),
    )


def _panel(
  curves: Sequence[Row],
  axes: Spec,
  *,
  behind: Sequence[Row] = (),
  thin: Sequence[Row] = (),
  of_seeds: bool = False,
) -> Spec:
  """Draw curves; what stands behind them is grey, what is thin is one attack's."""
  look = {
    **axes,
    "stroke": charts.raw("color", scale=None),
    "detail": charts.raw("model"),
    "order": charts.number("step"),
    "opacity": charts.highlighted(),
  }
  dash = {"strokeDash": charts.raw("dash", scale=None)}
  dash["strokeWidth"] = charts.number("width", scale=None)
  grey = {key: look[key] for key in ("x", "y", "detail", "order")} | dash
  faint = {**look, "opacity": charts.highlighted(0.35)}
  faint["detail"] = [charts.raw("model"), charts.raw("seed")]
  single = {**look, "opacity": charts.highlighted(0.75)}
  single["detail"] = [charts.raw("model"), charts.raw("attack")]
  spread = {**axes, "y": {**axes["y"], "field": "low"}, "y2": {"field": "high"}}
  spread |= {"fill": look["stroke"], "detail": look["detail"]}
  spread["opacity"] = charts.highlighted(0.13)
  seeds = [seed for row in curves for seed in row["seeds"]] if of_seeds else []
  spreads = curves if of_seeds and len(curves) <= _CROWD else []
  layers = [
    _flat("line", grey, behind, color="var(--muted)", opacity=0.8),
    _flat("area", spread, spreads, "low", "high"),
    _flat("line", faint, seeds, strokeWidth=0.7),
    _flat("line", single, thin, strokeWidth=1.1, strokeDash=[2, 2]),
    _flat("line", look | dash, curves),
    *_ends(curves, axes),
  ]
  return {"layer": [layer for layer in layers if layer is not None]}


def _ends(curves: Sequence[Row], axes: Spec) -> list[Spec]:
  """Draw a marker at the end of each curve, and on the page one at each step."""
  shown = charts.tooltips(
    model="model", seed="seed", step="updates", words="worst forget", run="run"
  )
  look = {**axes, **charts.looks()}
  ends = [
    {
      **row,
      "step": row["step"][-1:],
      "score": row["score"][-1:],
      "words": [row["words"][-1]],
    }
    for row in curves
  ]
  point = {"stroke": "var(--paper)", "strokeWidth": 0.8}
  hidden = {key: look[key] for key in ("x", "y", "href")}
  hidden |= {"size": {"value": 160}, "opacity": {"value": 0}, "tooltip": shown}
  hovered = _flat("point", hidden, curves, "words")
  if hovered is not None:
    hovered["transform"].insert(0, {"filter": charts.HOVER})
  marked = _flat("point", look | {"tooltip": shown}, ends, "words", **point)
  return [layer for layer in (marked, hovered) if layer is not None]


def _flat(
  mark: str, encoding: Spec, rows: Sequence[Row], *more: str, **look: Any
) -> Spec | None:
  """Return a layer of rows that hold a curve each; None of no rows."""
  if not rows:
    return None
  fields = ["step", "score", *more]
  kept = {"seeds"} | {"low", "high", "words"} - set(more)
  rows = [{k: v for k, v in row.items() if k not in kept} for row in rows]
  layer = charts.layer(mark, encoding, rows=rows, clip=mark != "point", **look)
  return layer | {"transform": [{"flatten": fields}]}


def _curve(
  results: Results, name: str, look: ModelStyle, attacks: Sequence[str]
) -> Row:
  """Return a model's curve as one row: lists of steps and of scores."""
  steps, scores = statistics.curve(results, name, attacks)
  steps = steps[: len(scores)]
  runs = results.models[name].runs
  model = {**charts.of_model(look), "dash": list(look.dash), "width": look.width}
  seeds = [
    {
      **{key: model[key] for key in ("model", "method", "color")},
      "seed": run.seed,
      "step": steps,
      "score": [significant(score.by_seed[index]) for score in scores],
    }
    for index, run in enumerate(runs)
  ]
  return {
    **model,
    **charts.of_runs(runs),
    "step": steps,
    "score": [significant(score.value) for score in scores],
    "low": [significant(_end(score, -1)) for score in scores],
    "high": [significant(_end(score, 1)) for score in scores],
    "words": [number(score) for score in scores],
    "seeds": seeds,
  }


def _level(row: Row, envelope: Row) -> Row:
  """Return a curve; an edit's, which takes no updates, as long as its model's."""
  if row["step"] != [0]:
    return row
  return row | {"step": [0, envelope["step"][-1]], "score": row["score"] * 2}


def _end(score: Mean, sign: int) -> float:
  return score.value + sign * (score.half_width or 0.0)


def _axes(results: Results, curves: Iterable[Row]) -> Spec:
  curves = list(curves)
  steps = {step for row in curves for step in row["step"]}
  scores = [score for row in curves for score in (*row["low"], *row["high"])]
  metric = results.metrics["forget"]
  label = style.axis_label("worst forget score", metric)
  return {
    "x": charts.step_axis(steps, title="relearning updates"),
    "y": charts.score_axis("score", scores, metric, title=label),
  }


FIGURE = Figure(
  draw=draw,
  title="Relearning curves",
  caption=(
    "The worst forget score over attacks and learning rates up to each step, the "
    "envelope over all that was tried. Dashed: references. The axis is linear up to "
    "its first positive step and logarithmic after it. In the panels of a method thin "
    "lines are single attacks, level ones edits of the weights, grey ones the "
    "references."
  ),
  needs=("attack",),
)
