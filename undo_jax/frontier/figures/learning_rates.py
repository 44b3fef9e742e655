"""Which learning rate was the worst for each model at each step."""

import math

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Patch

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import robustness as rb
from undo_jax.frontier.figures import style
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.results import Relearning, Results

_TIE_COLOR = "#e4e4e4"


def draw(results: Results) -> Drawing:
  """Draws a panel an attack, with a row for each model, and in it one for each seed."""
  attacked = {
    attack: [
      name for name, model in results.models.items() if attack in model.runs[0].attacks
    ]
    for attack in results.attacks
  }
  attacked = {attack: names for attack, names in attacked.items() if names}
  row = 0.19 + 0.08 * len(results.seeds)
  heights = [1.3 + row * len(names) for names in attacked.values()]
  figure = Drawing(figsize=(style.WIDTH, sum(heights)), layout="constrained")
  panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
  labels = style.attack_labels(results)
  for axes, (attack, names) in zip(panels.ravel(), attacked.items(), strict=True):
    _panel(axes, results, attack, names)
    if len(results.attacks) > 1:
      axes.set_title(style.plain(labels[attack]))
  panels.ravel()[-1].set_xlabel("relearning updates")
  return figure


def _panel(axes: Axes, results: Results, attack: str, names: list[str]) -> None:
  """Draws the models under one attack."""
  by_model = [[run.attacks[attack] for run in results.models[n].runs] for n in names]
  relearned = [of_seed for of_model in by_model for of_seed in of_model]
  rates = sorted({rate for each in relearned for rate in each.learning_rates})
  steps = sorted({step for each in relearned for step in each.steps if step > 0})
  more_is_worse = higher_is_worse(results.metrics["forget"])
  colors, seeds = _rate_colors(len(rates)), len(results.seeds)
  axes.grid(visible=False)
  axes.pcolormesh(
    [_rate_row(each, rates, steps, more_is_worse) for each in relearned],
    cmap=ListedColormap([_TIE_COLOR, *colors]),
    norm=BoundaryNorm([i - 1.5 for i in range(len(rates) + 2)], len(rates) + 1),
    edgecolors="#ffffff",
    linewidth=0.6 if seeds == 1 else 0.2,
  )
  axes.hlines(
    range(0, len(relearned) + 1, seeds), 0, len(steps), color="#ffffff", linewidth=1.8
  )
  axes.invert_yaxis()
  styles = style.model_styles(results)
  labels = [style.plain(styles[name].label) for name in names]
  axes.set_yticks([seeds * (i + 0.5) for i in range(len(names))], labels)
  every = max(1, math.ceil(len(steps) / 12))
  shown = range(every - 1, len(steps), every)
  axes.set_xticks([i + 0.5 for i in shown], [str(steps[i]) for i in shown])
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  patches = [Patch(facecolor=c, edgecolor="#cccccc") for c in [*colors, _TIE_COLOR]]
  axes.legend(
    patches,
    [f"{rate:g}" for rate in rates] + ["tie"],
    loc="upper left",
    bbox_to_anchor=(1.01, 1.04),
    title="worst learning rate",
  )


def _rate_colors(count: int) -> list[str]:
  """Returns colors with saturated ends, so that the edges of the grid stand out."""
  shades = matplotlib.colormaps["RdYlBu_r"]
  return [to_hex(shades(i / max(1, count - 1))) for i in range(count)]


def _rate_row(
  relearned: Relearning, rates: list[float], steps: list[int], more_is_worse: bool
) -> list[float]:
  """Returns the index of the worst rate at each step: -1 a tie, NaN not evaluated."""
  evaluated = [step for step in relearned.steps if step > 0]
  edge = rb.edge_of_grid(relearned, higher_is_worse=more_is_worse)
  worst = dict(zip(evaluated, edge.by_step, strict=True))
  index = {None: -1, **{rate: i for i, rate in enumerate(rates)}}
  return [index[worst[step]] if step in worst else math.nan for step in steps]


FIGURE = Figure(
  draw=draw,
  title="The worst learning rate",
  caption=(
    "Which learning rate of the attack was the worst at each step. Rows in the "
    "saturated end colors mean that a rate outside the grid might be worse. Grey: "
    "several rates were equally bad. Each line of a row is a seed."
  ),
  needs=("attack",),
)
