"""Figures of the study: edits and probes as pictures, shares and errors as lines."""

import numpy as np

from experiments.direct_inversion import results as results_lib
from experiments.direct_inversion.results import WAYS, Results
from experiments.shared import charts
from undo_jax.frontier.figures.charts import Row, Spec

_SHARE = "share judged to be of the class"


def draw(results: Results) -> dict[str, bytes]:
  """Return SVG bytes by file name; `results` are those of results.json."""
  axes = results["seeds"][0]["axes"]
  return {
    "edit.svg": charts.svg(
      [edit(results)],
      title=f"A held-out {axes['source']}, edited to {axes['target']}",
      description="Pictures by lambda, in rows, and guidance, in columns.",
    ),
    "inversion.svg": charts.svg(
      [pictures(results, way) for way in ("class", "other")],
      title=f"What inversion brings back of class {axes['forgotten']}",
      description="Pictures by model, in rows, and lambda, in columns, of one seed.",
    ),
    "recovery.svg": charts.svg(
      [recovery(results, way) for way in WAYS],
      title="Share of held-out images that inversion brings back",
      description="By lambda and model, mean over seeds, bands from least to most.",
    ),
    "relearning.svg": charts.svg(
      [relearning(results)],
      title="Share of samples of the class by updates on it",
      description="At the worst rate, mean over seeds, bands from least to most.",
    ),
    "reconstruction.svg": charts.svg(
      [reconstruction(results)],
      title="Error of inversion and back by the number of steps",
      description="Mean over seeds, beside a line that falls as 1 / n.",
    ),
  }


def edit(results: Results) -> Spec:
  """Return edits of one image by lambda and guidance; the last row is the image."""
  part = results["seeds"][0]
  axes, edited = part["axes"], part["edit"]
  grid = {
    f"{merge:g}": {
      f"{scale:g}": edited["pictures"][g][row]
      for g, scale in enumerate(axes["guidance_scales"])
    }
    for row, merge in enumerate(axes["edit_lambdas"])
  }
  grid["source"] = {f"{axes['guidance_scales'][0]:g}": edited["source"]}
  return charts.pictures(
    grid,
    axes["shape"],
    rows="noise_merge_lambda",
    columns="guidance_scale",
    title=f"{axes['source']} to {axes['target']}",
  )


def pictures(results: Results, way: str) -> Spec:
  """Return what one way of inversion makes of an image, by model and lambda."""
  part = results["seeds"][0]
  lambdas = part["axes"]["probe_lambdas"]
  grid = {
    model: {
      f"{merge:g}": made
      for merge, made in zip(lambdas, of["pictures"][way], strict=True)
    }
    for model, of in part["inversion"].items()
  }
  return charts.pictures(
    grid,
    part["axes"]["shape"],
    rows="",
    columns="noise_merge_lambda",
    title=WAYS[way],
  )


def recovery(results: Results, way: str) -> Spec:
  """Return shares by lambda, with a line for each model."""
  data: list[Row] = []
  for model in results["seeds"][0]["inversion"]:
    shares = results_lib.over_seeds(
      results, lambda part, m=model: part["inversion"][m]["share"][way]
    )
    data += _banded(model, results["seeds"][0]["axes"]["probe_lambdas"], shares)
  ends = (0.0, 1.0)
  return charts.panel(
    data, x="noise_merge_lambda", y=_SHARE, title=WAYS[way], levels=ends
  )


def relearning(results: Results) -> Spec:
  """Return shares by updates, with a line for each model."""
  axes = results["seeds"][0]["axes"]
  data: list[Row] = []
  for model in results["seeds"][0]["relearning"]:
    shares = results_lib.worst_shares(results, model)
    data += _banded(model, [0, *axes["num_updates"]], shares)
  return charts.panel(
    data,
    x="updates on the class",
    y=_SHARE,
    title=f"samples of {axes['forgotten']}, worst rate",
    scales=("symlog", "linear"),
  )


def reconstruction(results: Results) -> Spec:
  """Return errors by steps, beside 1 / n."""
  steps = results["seeds"][0]["reconstruction"]["num_steps"]
  errors = results_lib.over_seeds(results, lambda part: part["reconstruction"]["plain"])
  through = errors.mean(0)[0] * steps[0]
  data = [
    *_banded("lambda 0", steps, errors),
    *charts.rows("1 / n", steps, [through / n for n in steps]),
  ]
  return charts.panel(
    data,
    x="steps n",
    y="root of the mean squared error",
    title="inversion and back, empty prompt",
    scales=("log", "log"),
  )


def _banded(series: str, x, values_SxN: np.ndarray) -> list[Row]:
  ends = (values_SxN.min(0), values_SxN.max(0))
  return charts.rows(series, x, values_SxN.mean(0), *ends)
