"""The worst forget score against relearning updates."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from undo_jax.frontier import robustness as rb
from undo_jax.frontier import statistics
from undo_jax.frontier.figures import style
from undo_jax.frontier.figures.figure import Figure
from undo_jax.frontier.figures.style import ModelStyle
from undo_jax.frontier.results import Results


def draw(results: Results) -> Drawing:
  """Draws a curve a model; of several attacks the worst case, and a panel each."""
  styles = style.model_styles(results)
  figure, panels = _panels(results)
  for axes, attacks in panels:
    steps: set[int] = set()
    for name in styles:
      steps |= _curve(axes, results, name, styles[name], attacks)
    _step_axis(axes, sorted(steps))
    style.limit(axes, results.metrics["forget"])
  label = style.axis_label("worst forget score", results.metrics["forget"])
  figure.supylabel(label, fontsize=10)
  figure.supxlabel("relearning updates", fontsize=10)
  handles = [
    Line2D([], [], color=s.color, linestyle=s.line, linewidth=s.width)
    for s in styles.values()
  ]
  labels = [style.plain(s.label) for s in styles.values()]
  figure.legend(handles, labels, loc="outside right upper", handlelength=2.6)
  return figure


def _panels(results: Results) -> tuple[Drawing, list[tuple[Axes, Sequence[str]]]]:
  """Returns a figure and its panels, each with the attacks that it shows."""
  counted, labels = rb.counted(results), style.attack_labels(results)
  if len(labels) == 1:
    figure = Drawing(figsize=(style.WIDTH, 4.6), layout="constrained")
    return figure, [(figure.add_subplot(), counted)]
  rows = 2 + (len(labels) + 1) // 2  # The first panel is twice as high.
  figure = Drawing(figsize=(style.WIDTH, 0.6 + 2.1 * rows), layout="constrained")
  grid = figure.add_gridspec(rows, 2)
  first = figure.add_subplot(grid[:2, :])
  first.set_title("worst case")
  panels: list[tuple[Axes, Sequence[str]]] = [(first, counted)]
  for index, (name, label) in enumerate(labels.items()):
    place = grid[2 + index // 2, index % 2]
    axes = figure.add_subplot(place, sharey=first)
    axes.set_title(style.plain(label))
    axes.tick_params(labelleft=index % 2 == 0)
    panels.append((axes, (name,)))
  return figure, panels


def _curve(
  axes: Axes, results: Results, name: str, look: ModelStyle, attacks: Sequence[str]
) -> set[int]:
  """Draws one model, of several seeds with its interval; returns its steps."""
  steps, scores = statistics.curve(results, name, attacks)
  if len(results.seeds) > 1:
    low, high = (
      [score.value + sign * (score.half_width or 0.0) for score in scores]
      for sign in (-1, 1)
    )
    axes.fill_between(steps, low, high, color=look.color, alpha=0.13, linewidth=0)
    for seed_S in zip(*(score.by_seed for score in scores), strict=True):
      axes.plot(steps, seed_S, color=look.color, alpha=0.3, linewidth=0.6)
  # References lie on top: they are what the other curves are compared with.
  is_reference = name in (results.references.base, results.references.filtered)
  axes.plot(
    steps,
    [score.value for score in scores],
    color=look.color,
    linestyle=look.line,
    linewidth=look.width,
    zorder=4 if is_reference else 3,
  )
  return set(steps)


def _step_axis(axes: Axes, steps: Sequence[int]) -> None:
  """Scales steps so that the first updates, where most is relearned, are visible."""
  positive = [step for step in steps if step > 0] or [1]
  axes.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
  decades = (m * 10**k for k in range(9) for m in (1, 2, 5))
  ticks = [0, *(t for t in decades if positive[0] <= t <= positive[-1])]
  axes.set_xticks(ticks, [str(tick) for tick in ticks])
  axes.set_xticks([], minor=True)
  axes.set_xlim(0, positive[-1])


FIGURE = Figure(
  draw=draw,
  title="Relearning curves",
  caption=(
    "The forget score at the worst learning rate of each step. Dashed: references. The "
    "axis is linear up to its first positive step and logarithmic after it. Of several "
    "attacks the first panel shows the worst at each step, the others one each."
  ),
  needs=("attack",),
)
