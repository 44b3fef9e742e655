"""Figures of the tug of war: two parameters over time, and errors of the two tasks."""

from functools import partial

import matplotlib
from matplotlib.figure import Figure

from experiments.gradient_routing.drawing import render
from experiments.gradient_routing.tug_of_war.results import Results
from experiments.gradient_routing.tug_of_war.two_tasks import TASKS

_COLORS = {"forget": "#d55e00", "retain": "#0072b2"}


def draw(results: Results) -> dict[str, bytes]:
  """Return PNG bytes by file name; `results` are those of results.json."""
  return render(
    {
      "two_parameters.png": partial(two_parameters, results),
      "two_tasks.png": partial(two_tasks, results),
    }
  )


def two_parameters(results: Results) -> Figure:
  """Draw the old and the new parameter, and their sum, over the updates."""
  figure = Figure(figsize=(8.0, 3.4), layout="constrained")
  left, right = figure.subplots(1, 2)
  paths = results["two_parameters"]
  shades = matplotlib.colormaps["viridis"]
  for rank, (weight, path) in enumerate(paths.items()):
    color = shades(0.85 * rank / max(1, len(paths) - 1))
    left.plot(path["steps"], path["old"], color=color, label=f"coherence {weight}")
    left.plot(path["steps"], path["new"], color=color, linestyle=(0, (4, 2)))
    total = [old + new for old, new in zip(path["old"], path["new"], strict=True)]
    right.plot(path["steps"], total, color=color)
  left.set_ylabel("value")
  left.set_title("old parameter, new one dashed")
  right.set_title("their sum (retain wants 2, forget 1)")
  for axes in (left, right):
    axes.set_xlabel("updates")
  figure.legend(
    *left.get_legend_handles_labels(), loc="outside lower center", ncols=len(paths)
  )
  return figure


def two_tasks(results: Results) -> Figure:
  """Draw errors before (open) and after ablation (filled), a dot for each seed."""
  ways = results["two_tasks"]
  figure = Figure(figsize=(8.0, 1.4 + 0.36 * len(ways)), layout="constrained")
  axes = figure.add_subplot()
  for task in TASKS:
    color, shift = _COLORS[task], 0.13 if task == "retain" else -0.13
    axes.axvline(
      results["variance"][task],
      color=color,
      linestyle=(0, (4, 3)),
      linewidth=1,
      label=f"{task}, best constant",
    )
    for row, of_seed in enumerate(ways.values()):
      for when, face in (("before", "white"), ("after", color)):
        errors = [seed[when][task] for seed in of_seed.values()]
        axes.plot(
          errors,
          [row + shift] * len(errors),
          "o",
          color=color,
          markerfacecolor=face,
          markersize=5,
          label=None if row else f"{task}, {when} ablation",
        )
  axes.set_xscale("log")
  axes.set_yticks(range(len(ways)), [way.replace("_", " ") for way in ways])
  axes.invert_yaxis()
  axes.set_xlabel("mean squared error")
  figure.legend(loc="outside lower center", ncols=3)
  return figure
