"""Figures of the study: forgetting by labelled fraction, and relearning."""

from functools import partial

from matplotlib.figure import Figure

from experiments.gradient_routing.drawing import render
from experiments.gradient_routing.stories.results import (
  Measured,
  Model,
  Results,
  measures,
)

# Label, color and marker of each method.
_STYLES = {
  "filtering": ("data filtering", "#666666", "*"),
  "rmu": ("RMU", "#e69f00", "<"),
  "era": ("ERA: expand, route, ablate", "#56b4e9", "o"),
  "era_coherent": ("ERA, coherent", "#08519c", "D"),
  "sgtm": ("SGTM", "#009e73", "P"),
}
_PANELS = {
  "unlearning": "forget loss gained",
  "robust_unlearning": "left of it after retraining",
  "retain_after": "retain loss",
}


def draw(results: Results) -> dict[str, bytes]:
  """Return PNG bytes by file name; `results` are those of results.json."""
  figures = {"labels.png": partial(labels, results)}
  figures["retraining.png"] = partial(retraining, results)
  return render(figures)


def labels(results: Results) -> Figure:
  """Draw three measures by labelled fraction: dots for seeds, lines for means."""
  figure = Figure(figsize=(8.0, 3.6), layout="constrained")
  panels = figure.subplots(1, len(_PANELS))
  for axes, (measure, title) in zip(panels, _PANELS.items(), strict=True):
    for method, (label, color, marker) in _STYLES.items():
      models = _of(results, method)
      if not models:
        continue
      x = [100 * model["labelled"] for model in models]
      means = [model["mean"][measure] for model in models]
      axes.plot(x, means, color=color, marker=marker, label=label)
      for model in models:
        values = [measures(seed)[measure] for seed in model["seeds"].values()]
        place = [100 * model["labelled"]] * len(values)
        axes.plot(place, values, ".", color=color, markersize=3.5)
    for name, line in (("base", (0, (5, 2))), ("control", (0, (1, 1.5)))):
      if name not in results["models"]:
        continue
      value = results["models"][name]["mean"][measure]
      axes.axhline(value, color="#111111", linestyle=line, linewidth=1, label=name)
    axes.set_title(title)
    axes.set_xlabel("labelled, % of forget stories")
  panels[0].set_ylabel("nats per token")
  figure.legend(
    *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4
  )
  return figure


def retraining(results: Results) -> Figure:
  """Draw the forget loss in retraining, at the largest labelled fraction."""
  last = max(model["labelled"] for model in results["models"].values())
  numbers = list(_seeds(results["models"]["base"])[0]["retrained"])
  figure = Figure(figsize=(8.0, 3.6), layout="constrained")
  panels = figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0]
  for axes, number in zip(panels, numbers, strict=True):
    base = results["models"]["base"]["mean"]["forget_after"]
    axes.axhline(
      base, color="#111111", linestyle=(0, (5, 2)), linewidth=1, label="base"
    )
    for method, (label, color, marker) in _STYLES.items():
      for model in _of(results, method):
        if model["labelled"] != last:
          continue
        for index, measured in enumerate(_seeds(model)):
          curve = measured["retrained"][number]
          axes.plot(
            [0, *curve["steps"]],
            [measured["after"]["forget"], *curve["forget"]],
            color=color,
            linewidth=1.4,
            marker=marker,
            markersize=5,
            markevery=max(1, len(curve["steps"]) // 4),
            label=None if index else label,
          )
    axes.set_title(f"on {number} stories, {last:.0%} labelled")
    axes.set_xlabel("updates")
  panels[0].set_ylabel("forget loss, nats per token")
  figure.legend(
    *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3
  )
  return figure


def _of(results: Results, method: str) -> list[Model]:
  """Return the models of a method by rising fraction."""
  models = [
    model
    for name, model in results["models"].items()
    if model["method"] == method and name not in ("base", "control")
  ]
  return sorted(models, key=lambda model: model["labelled"])


def _seeds(model: Model) -> list[Measured]:
  return list(model["seeds"].values())
