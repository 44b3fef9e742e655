"""Figures: tightness of the bounds, errors of each loss, returns by real steps."""

import numpy as np

from experiments.model_advantage.results import ControlPart, Results, interval
from experiments.shared import charts
from undo_jax.frontier.figures.charts import Row, Spec

_NOTHING = 1e-8  # Smaller errors are drawn as this.


def draw(results: Results) -> dict[str, bytes]:
  """Return SVG bytes by file name; `results` are those of results.json."""
  drawn = {
    "advantage.svg": charts.svg(
      [tightness(results), errors(results)],
      title="Model advantage: bounds, and models beside a distractor",
      description="Left, shares of random MDPs by how much of a bound the difference of"
      " returns is. Right, errors of the return by squared errors of the model.",
    )
  }
  if results["control"]:
    drawn["control.svg"] = charts.svg(
      [returns(part) for part in results["control"]],
      title="Returns of model-based control by the loss of the model",
      description="Return of the mean action in the environment by steps in the"
      " environment, mean over seeds.",
    )
  return drawn


def tightness(results: Results) -> Spec:
  """Return the distribution of the difference divided by each bound."""
  data: list[Row] = []
  for name, shares in results["tables"]["share_of_bound"].items():
    places = np.arange(1, len(shares) + 1) / len(shares)
    data += charts.rows(f"bound by {name}", np.sort(shares), places)
  return charts.panel(
    data,
    x="difference of returns over the bound",
    y="share of random MDPs",
    title="bounds",
  )


def errors(results: Results) -> Spec:
  """Return a point for each random start."""
  data: list[Row] = []
  for part in results["toy"]:
    error = np.maximum(np.abs(part["return_error"]), _NOTHING)
    data += charts.rows(f"trained by {part['loss']}", part["squared_error"], error)
  return charts.panel(
    data,
    x="squared error of the model",
    y="error of the return",
    title="beside a distractor",
    scales=("log", "log"),
    points=[f"trained by {part['loss']}" for part in results["toy"]],
  )


def returns(part: ControlPart) -> Spec:
  """Return a line a method."""
  data: list[Row] = []
  for method, by_seed in part["returned"].items():
    means = [interval(of_stage)[0] for of_stage in np.array(by_seed).T]
    data += charts.rows(method, part["real_steps"], means)
  return charts.panel(
    data,
    x="steps in the environment",
    y="return of an episode",
    title=part["environment"],
  )
