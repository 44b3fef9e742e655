"""Figures of the study: return by level of oversight, and while training."""

from functools import partial
import math

from matplotlib.figure import Figure
import numpy as np

from experiments.gradient_routing.drawing import render
from experiments.gradient_routing.gridworld.results import Results

# Color and marker of each method; either alone distinguishes the methods.
_STYLES = {
  "routing": ("#0072b2", "o"),
  "routing_gate_relu": ("#56b4e9", "s"),
  "routing_without_gate": ("#009e73", "^"),
  "gate_without_routing": ("#cc79a7", "v"),
  "naive": ("#d55e00", "D"),
  "naive_early_stopped": ("#e69f00", "d"),
  "filtering": ("#882255", "P"),
  "oracle_filtering": ("#666666", "X"),
}
_OTHER = ("#8a7f5c", "*")
_REFERENCES = {"optimal": (0, (5, 2)), "blind": (0, (1, 1.5))}


def draw(results: Results) -> dict[str, bytes]:
  """Draw all figures of results.json; return PNG bytes by file name."""
  figures = {"oversight": returns_by_oversight, "training": learning_curves}
  return render({f"{name}.png": partial(fn, results) for name, fn in figures.items()})


def returns_by_oversight(results: Results) -> Figure:
  """Draw the final returns: a small mark for each seed, a line through the means."""
  figure = Figure(figsize=(8.0, 4.8), layout="constrained")
  axes = figure.add_subplot()
  levels = results["oversight"]
  _references(axes, results, levels[0])
  for method, by_level in results["methods"].items():
    color, marker = _STYLES.get(method, _OTHER)
    means = [by_level[f"{level:g}"]["mean"] for level in levels]
    order = np.argsort(levels)
    axes.plot(
      np.array(levels)[order],
      np.array(means)[order],
      color=color,
      marker=marker,
      markersize=7,
      label=method.replace("_", " "),
    )
    for level in levels:
      values = list(by_level[f"{level:g}"]["return"].values())
      axes.plot(
        [level] * len(values), values, marker, color=color, markersize=3.5, alpha=0.6
      )
  if min(levels) > 0:
    axes.set_xscale("log")
  axes.set_xticks(levels, [f"{100 * level:g} %" for level in levels])
  axes.set_xticks([], minor=True)
  axes.set_xlabel("oversight: probability that a goal is overseen")
  axes.set_ylabel("average stepwise return (true reward)")
  figure.legend(loc="outside right upper")
  return figure


def learning_curves(results: Results) -> Figure:
  """Draw the return in training by level: seeds are thin lines, means thick ones."""
  levels = results["oversight"]
  columns = 3 if len(levels) % 3 == 0 else min(2, len(levels))
  rows = math.ceil(len(levels) / columns)
  figure = Figure(figsize=(8.0, 0.9 + 2.7 * rows), layout="constrained")
  grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
  for unused in grid[len(levels) :]:
    unused.remove()
  for axes, level in zip(grid, levels, strict=False):
    _references(axes, results, level, named=axes is grid[0])
    for method, by_level in results["methods"].items():
      at_level = by_level[f"{level:g}"]
      if "curve" not in at_level:
        continue
      color, marker = _STYLES.get(method, _OTHER)
      curves = list(at_level["curve"].values())
      steps = np.array(at_level["environment_steps"]) / 1e6
      for curve in curves:
        axes.plot(steps, curve, color=color, linewidth=0.7, alpha=0.5)
      label = method.replace("_", " ") if axes is grid[0] else None
      axes.plot(
        steps,
        np.mean(curves, axis=0),
        color=color,
        linewidth=2,
        marker=marker,
        markersize=5.5,
        markevery=max(1, len(steps) // 4),
        label=label,
      )
    axes.set_title(f"oversight {100 * level:g} %")
  figure.supxlabel("environment steps, millions", fontsize=10)
  figure.supylabel("average stepwise return", fontsize=10)
  figure.legend(loc="outside upper center", ncols=4)
  return figure


def _references(axes, results, level, *, named=True):
  for name, line in _REFERENCES.items():
    axes.axhline(
      results["references"][name][f"{level:g}"],
      color="#111111",
      linewidth=1,
      linestyle=line,
      label=f"scripted: {name}" if named else None,
    )
