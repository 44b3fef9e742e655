"""What comes out of the study: results.json and its tables."""

from collections.abc import Mapping
from typing import TypedDict

from experiments.variance_decomposition.estimators import Coverage, Estimated
from undo_jax.utils import tables


class Split(TypedDict):
  """The closed form of a game that is played in one way."""

  variance: float
  first_order: dict[str, float]  # V_i by factor.
  total: dict[str, float]  # T_i
  components: dict[str, float]  # By set of factors.


class Part(TypedDict):
  """A game that is played in one way."""

  game: str
  play: str
  mean: float  # Of the first player.
  exploitability: float  # Of both together.
  splits: dict[str, Split]  # By how chance is labelled.
  first_order: dict[str, Estimated]  # E1, of the shuffled deck as all estimates.
  total: dict[str, Estimated]  # E2
  components: dict[str, Estimated]  # E3
  coverage: dict[str, Coverage]  # E4


class Results(TypedDict):
  """Of results.json."""

  parts: list[Part]
  largest_z: dict[str, float]  # By estimator, over all parts and factors.


def assemble(parts: Mapping[str, Part]) -> Results:
  """Return the results of all parts."""
  of = list(parts.values())
  estimates = {
    "E1": [each for part in of for each in part["first_order"].values()],
    "E2": [each for part in of for each in part["total"].values()],
    "E3": [each for part in of for each in part["components"].values()],
  }
  largest = {
    name: max((abs(z) for each in own if (z := _z(each)) is not None), default=0.0)
    for name, own in estimates.items()
  }
  return {"parts": of, "largest_z": largest}


def table(results: Results) -> str:
  """Return the closed form, the estimates and the intervals, in Markdown."""
  z = ", ".join(f"{name} {value:.1f}" for name, value in results["largest_z"].items())
  return "\n\n".join(
    (
      split_table(results),
      chance_table(results),
      estimate_table(results),
      f"Standard errors between estimate and closed form, at most: {z}.",
      coverage_table(results),
    )
  )


def split_table(results: Results) -> str:
  """Return a row a game and play: shares of the variance, of a shuffled deck."""
  header = ["game", "play", "mean", "exploitability", "variance"]
  rows = []
  for part in results["parts"]:
    split = part["splits"]["deck"]
    if not rows:
      header += [f"{name}: V" for name in split["first_order"]]
      header += [f"{name}: T" for name in split["total"]]
    shares = (*split["first_order"].values(), *split["total"].values())
    rows.append(
      [
        *_names(part),
        f"{part['mean']:z.4f}",
        f"{part['exploitability']:z.4f}",
        f"{split['variance']:.3f}",
        *(f"{share / split['variance']:z.1%}" for share in shares),
      ]
    )
  return tables.markdown(header, rows)


def chance_table(results: Results) -> str:
  """Return a row a game and play: what chance explains by how it is labelled."""
  names = list(results["parts"][0]["splits"])
  header = ["game", "play", *(f"V of chance, {name}" for name in names)]
  header += [f"T of chance, {name}" for name in names]
  rows = [
    [
      *_names(part),
      *(
        f"{split[kind]['chance'] / split['variance']:.1%}"
        for kind in ("first_order", "total")
        for split in part["splits"].values()
      ),
    ]
    for part in results["parts"]
  ]
  return tables.markdown(header, rows)


def estimate_table(results: Results) -> str:
  """Return a row a game and play: estimates of each factor beside the closed form."""
  header, rows = ["game", "play"], []
  for part in results["parts"]:
    kinds = {"V": part["first_order"], "T": part["total"]}
    if not rows:
      header += [f"{name}: {kind}" for kind, of in kinds.items() for name in of]
    cells = (
      f"{each['estimate']:z.3f} ± {each['standard_error']:.3f} ({each['exact']:z.3f})"
      for of in kinds.values()
      for each in of.values()
    )
    rows.append([*_names(part), *cells])
  return tables.markdown(header, rows)


def coverage_table(results: Results) -> str:
  """Return a row a game and play: intervals that hold the component."""
  names = list(results["parts"][0]["coverage"])
  rows = [
    [*_names(part), *(_held(part["coverage"][name]) for name in names)]
    for part in results["parts"]
    if set(part["coverage"]) == set(names)
  ]
  return tables.markdown(["game", "play", *names], rows)


def _names(part: Part) -> tuple[str, str]:
  return part["game"], part["play"]


def _held(each: Coverage) -> str:
  return f"{each['held']} of {each['tables']}"


def _z(each: Estimated) -> float | None:
  """Return how many standard errors are between; None: nothing varies."""
  error = each["standard_error"]
  return (each["estimate"] - each["exact"]) / error if error > 1e-9 else None
