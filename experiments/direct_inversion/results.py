"""The results of the study: results.json and its tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

import numpy as np

from undo_jax.utils import tables

# The ways to bring the unlearned class back, in the order of their computation.
WAYS = {
  "class": "its held-out images, its prompt",
  "empty": "its held-out images, empty prompt",
  "other": "held-out images of another class, its prompt",
}
Pictures: TypeAlias = list  # Pixels in [0, 255], nested lists whose last axis is P.


class Shares(TypedDict):
  """Shares of samples from fresh noise that are of the class they should be."""

  forget: float  # For the class that is unlearned.
  retain: float  # For all other classes.


class ReconstructionPart(TypedDict):
  """Errors of the trained model after inversion and back, by the number of steps."""

  num_steps: list[int]
  plain: list[float]
  same_time: list[float]  # With lambda 1 and the published code's noises.
  shifted: list[float]  # With lambda 1 and the noises one step earlier.
  slope: float  # Of log `plain` over log `num_steps`.


class EditPart(TypedDict):
  """Edits by the trained model, by guidance and lambda, [G, L]."""

  share: list[list[float]]  # Share of edited images of the other class.
  error: list[list[float]]  # Between source and edited images.
  source: Pictures  # [P]
  pictures: Pictures  # [G, L, P], its edits.


class Inverted(TypedDict):
  """What inversion brings back from one model, by way (see WAYS) and lambda."""

  nats_per_pixel: float  # Of the class's inverted images, under N(0, I).
  share: dict[str, list[float]]  # Share of images of the unlearned class.
  error: dict[str, list[float]]  # Between the images and what they become.
  pictures: dict[str, Pictures]  # [L, P] of one image.


SamplePart: TypeAlias = dict[str, Shares]  # By model.
InversionPart: TypeAlias = dict[str, Inverted]  # By model.
RelearningPart: TypeAlias = dict[str, list[list[float]]]  # By model [updates, rates].


class Axes(TypedDict):
  """The axes of a part's numbers."""

  shape: list[int]  # Of the images.
  forgotten: int  # The class that is unlearned.
  source: int  # Class of the images that are edited.
  target: int
  guidance_scales: list[float]  # For the edits.
  edit_lambdas: list[float]
  probe_lambdas: list[float]
  num_updates: list[int]  # For relearning.
  learning_rates: list[float]


class Part(TypedDict):
  """The results of one seed."""

  axes: Axes
  judge_accuracy: float  # On held-out images.
  samples: SamplePart
  reconstruction: ReconstructionPart
  edit: EditPart
  inversion: InversionPart
  relearning: RelearningPart


class Results(TypedDict):
  """The content of results.json."""

  seeds: list[Part]


def assemble(parts: Mapping[str, Part]) -> Results:
  """Return the results made of the parts of all seeds."""
  return {"seeds": list(parts.values())}


def slope(num_steps: Sequence[int], errors: Sequence[float]) -> float:
  """Return the slope of log error by log steps, by least squares."""
  return float(np.polyfit(np.log(num_steps), np.log(errors), 1)[0])


def over_seeds(results: Results, get: Callable[[Part], Any]) -> np.ndarray:
  """Return a value from each part as one array, with the seeds as its first axis."""
  return np.array([get(part) for part in results["seeds"]])


def worst_shares(results: Results, model: str) -> np.ndarray:
  """Return the class's share of samples after updates at the worst rate, [S, K].

  The first of the K shares is before any update.
  """

  def of(part: Part) -> list[float]:
    after = [max(by_rate) for by_rate in part["relearning"][model]]
    return [part["samples"][model]["forget"], *after]

  return over_seeds(results, of)


def table(results: Results) -> str:
  """Return all tables in Markdown."""
  accuracy = results["seeds"][0]["judge_accuracy"]
  return "\n\n".join(
    (
      f"The judge is right on {accuracy:.1%} of the held-out images.",
      reconstruction_table(results),
      edit_table(results),
      sample_table(results),
      *(inversion_table(results, way) for way in WAYS),
      relearning_table(results),
    )
  )


def reconstruction_table(results: Results) -> str:
  """Return a row for each number of steps: errors after inversion and back."""
  kinds = ("plain", "same_time", "shifted")
  errors = [over_seeds(results, lambda p, k=k: p["reconstruction"][k]) for k in kinds]
  steps = results["seeds"][0]["reconstruction"]["num_steps"]
  rows = [
    [f"{n}", *(_spread(each[:, i], ".2g") for each in errors)]
    for i, n in enumerate(steps)
  ]
  slopes = over_seeds(results, lambda part: part["reconstruction"]["slope"])
  rows.append(["slope", _spread(slopes, ".2f"), "", ""])
  header = ["steps", "error, lambda 0", "lambda 1, same time", "lambda 1, shifted"]
  return tables.markdown(header, rows)


def edit_table(results: Results) -> str:
  """Return a row for each lambda: share of the other class and error, by guidance."""
  axes = results["seeds"][0]["axes"]
  share, error = (
    over_seeds(results, lambda part, k=k: part["edit"][k]) for k in ("share", "error")
  )
  rows = [
    [
      f"{merge:g}",
      *(
        f"{_spread(share[:, g, i])}; {error[:, g, i].mean():.2f}"
        for g in range(share.shape[1])
      ),
    ]
    for i, merge in enumerate(axes["edit_lambdas"])
  ]
  header = [f"lambda, {axes['source']} to {axes['target']}"]
  return tables.markdown(
    [*header, *(f"guidance {scale:g}" for scale in axes["guidance_scales"])], rows
  )


def sample_table(results: Results) -> str:
  """Return a row for each model: samples of the right class, and inverted images."""
  rows = []
  for model in results["seeds"][0]["samples"]:
    shares = (
      over_seeds(results, lambda part, k=k, m=model: part["samples"][m][k])
      for k in ("forget", "retain")
    )
    nats = over_seeds(results, lambda p, m=model: p["inversion"][m]["nats_per_pixel"])
    rows.append([model, *map(_spread, shares), _spread(nats, ".3f")])
  forgotten = results["seeds"][0]["axes"]["forgotten"]
  header = ["model", f"samples of {forgotten}", "of the others", "nats a pixel"]
  return tables.markdown(header, rows)


def inversion_table(results: Results, way: str) -> str:
  """Return a row for each model: what one way of inversion brings back, by lambda."""
  lambdas = results["seeds"][0]["axes"]["probe_lambdas"]
  rows = []
  for model in results["seeds"][0]["inversion"]:
    shares, errors = (
      over_seeds(results, lambda part, k=k, m=model: part["inversion"][m][k][way])
      for k in ("share", "error")
    )
    cells = (
      f"{_spread(shares[:, i])}; {errors[:, i].mean():.2f}" for i in range(len(lambdas))
    )
    rows.append([model, *cells])
  header = [WAYS[way], *(f"lambda {merge:g}" for merge in lambdas)]
  return tables.markdown(header, rows)


def relearning_table(results: Results) -> str:
  """Return a row for each model: samples of the class, by updates at the worst rate."""
  rows = []
  for model in results["seeds"][0]["relearning"]:
    shares = worst_shares(results, model)
    rows.append([model, *(_spread(column) for column in shares.T)])
  updates = results["seeds"][0]["axes"]["num_updates"]
  return tables.markdown(["model", "0 updates", *map(str, updates)], rows)


def _spread(values: Iterable[float], style: str = ".2f") -> str:
  """Format the mean over seeds and their standard deviation."""
  values = np.asarray(list(values))
  if len(values) == 1:
    return f"{values[0]:{style}}"
  return f"{values.mean():{style}} ± {values.std(ddof=1):{style}}"
