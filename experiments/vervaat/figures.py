"""Figures of the study: time by beta, densities, and errors of the listing."""

import math

from experiments.shared import charts
from experiments.vervaat.results import Results
from undo_jax.frontier.figures.charts import Spec

_MOST_DENSITIES = 4
_HIGHEST = 1e6  # Largest value of the earlier bound that is drawn.


def draw(results: Results) -> dict[str, bytes]:
  """Return SVG bytes by file name; `results` are those of results.json."""
  return {
    "time.svg": charts.svg(
      [steps(results)],
      title="Steps of an exact draw of a Vervaat perpetuity",
      description="Steps by beta, beside beta ln(beta + 2) and (2.23 beta)^beta.",
    ),
    "uniforms.svg": charts.svg(
      [slow(results)],
      title="Uniform variables that a draw takes",
      description="By beta, of the exact and of the published updates.",
    ),
    "densities.svg": charts.svg(
      densities(results),
      title="Draws and the solved density",
      description="Histograms of exact draws as points, the solved density as lines.",
    ),
    "published.svg": charts.svg(
      [off(results)],
      title="How far the mean of the draws is off",
      description="Standard errors between mean and beta, by update and beta.",
    ),
  }


def steps(results: Results) -> Spec:
  """Return the steps of a draw by beta, as measured and as the bounds grow."""
  betas = [part["beta"] for part in results["exact"]]
  measured = [part["time"]["steps"] for part in results["exact"]]
  earlier = [(2.23 * beta) ** beta for beta in betas]
  within = [i for i, bound in enumerate(earlier) if 1 <= bound <= _HIGHEST]
  data = [
    *charts.rows("steps, mean", betas, measured),
    *charts.rows(
      "beta ln(beta + 2)", betas, [beta * math.log(beta + 2) for beta in betas]
    ),
    *charts.rows(
      "(2.23 beta)^beta", [betas[i] for i in within], [earlier[i] for i in within]
    ),
  ]
  return charts.panel(
    data, x="beta", y="steps", title="exact updates", scales=("log", "log")
  )


def slow(results: Results) -> Spec:
  """Return the number of uniform variables of a draw, by beta and update."""
  parts = results["slow"]
  data = []
  for name in parts[0]["updates"]:
    taken = [part["updates"][name]["time"]["uniforms"] for part in parts]
    data += charts.rows(name, [part["beta"] for part in parts], taken)
  return charts.panel(
    data,
    x="beta",
    y="uniform variables a draw",
    title="three updates",
    scales=("log", "log"),
  )


def densities(results: Results) -> list[Spec]:
  """Return a panel for some of the betas, with histogram and solved density."""
  parts = results["exact"]
  step = max(1, len(parts) // _MOST_DENSITIES)
  panels = []
  for part in parts[::step][:_MOST_DENSITIES]:
    histogram = part["histogram"]
    data = [
      *charts.rows("solved", histogram["x"], histogram["solved"]),
      *charts.rows("draws", histogram["x"], histogram["density"]),
    ]
    title = f"beta = {part['beta']:g}"
    panels.append(
      charts.panel(data, x="y", y="density", title=title, points=("draws",))
    )
  return panels


def off(results: Results) -> Spec:
  """Return the error of the mean in standard errors, by beta and update."""
  parts = results["published"]
  data = []
  for name in parts[0]["updates"]:
    z = [part["updates"][name]["cumulants"][0]["z"] for part in parts]
    data += charts.rows(name, [part["beta"] for part in parts], z)
  return charts.panel(
    data,
    x="beta",
    y="standard errors off",
    title="mean of the draws",
    scales=("log", "symlog"),
    levels=(0.0,),
  )
