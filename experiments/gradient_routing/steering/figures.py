"""Figures of the steering scalar: the vocabulary's projection, and steered stories."""

from functools import partial

from matplotlib.figure import Figure

from experiments.gradient_routing.drawing import render
from experiments.gradient_routing.steering.results import Results

# Color, marker and line of each model.
_STYLES = {"routed": ("#d55e00", "o", "-"), "control": ("#666666", "s", "--")}


def draw(results: Results) -> dict[str, bytes]:
  """Return PNG bytes by file name; `results` are those of results.json."""
  return render(
    {
      "projection.png": partial(projection, results),
      "steering.png": partial(steering, results),
    }
  )


def projection(results: Results) -> Figure:
  """Draw the scores of all tokens, a row for each model and seed."""
  rows = [
    (f"{name}, seed {seed}", measured)
    for name, of_seed in results["models"].items()
    for seed, measured in of_seed.items()
  ]
  figure = Figure(figsize=(8.0, 1.6 + 0.5 * len(rows)), layout="constrained")
  axes = figure.add_subplot()
  for row, (_, measured) in enumerate(rows):
    for scores, label, color, shift in (
      (measured["others"], "other tokens", "#bbbbbb", 0.18),
      (measured["related"], "other words of its topic", "#0072b2", -0.18),
    ):
      axes.plot(
        scores,
        [row + shift] * len(scores),
        "|",
        color=color,
        markersize=10,
        label=None if row else label,
      )
    axes.plot(
      [measured["score"]],
      [row],
      "D",
      color=_STYLES["routed"][0],
      label=None if row else results["word"],
    )
  axes.set_yticks(range(len(rows)), [label for label, _ in rows])
  axes.invert_yaxis()
  axes.set_xlabel("share of the token's unembedding in the dimension (cosine)")
  figure.legend(loc="outside lower center", ncols=3)
  return figure


def steering(results: Results) -> Figure:
  """Draw the shares of stories with the word and with its topic, by strength."""
  figure = Figure(figsize=(8.0, 3.4), layout="constrained")
  panels = figure.subplots(1, 2, sharey=True)
  titles = {"word": f"with “{results['word']}”", "related": "with words of its topic"}
  for axes, (share, title) in zip(panels, titles.items(), strict=True):
    for name, of_seed in results["models"].items():
      color, marker, line = _STYLES[name]
      for index, measured in enumerate(of_seed.values()):
        axes.plot(
          [float(strength) for strength in measured["steering"]],
          [steered[share] for steered in measured["steering"].values()],
          color=color,
          marker=marker,
          markersize=4,
          linestyle=line,
          linewidth=1.4,
          label=None if index else name,
        )
    axes.set_title(title)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("added to the dimension, root mean squares")
  panels[0].set_ylabel("share of sampled stories")
  figure.legend(
    *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2
  )
  return figure
