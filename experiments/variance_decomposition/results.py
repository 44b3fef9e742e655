"""The results of the study: results.json and its tables."""

from collections.abc import Mapping
from typing import TypedDict, cast

from experiments.variance_decomposition.estimators import Coverage, Estimated
from undo_jax.utils import tables


class Split(TypedDict):
  """The closed form for a game with a fixed way to play it."""

  variance: float
  first_order: dict[str, float]  # V_i by factor.
  total: dict[str, float]  # T_i
  components: dict[str, float]  # By set of factors.


class Part(TypedDict):
  """The results for a game with a fixed way to play it."""

  game: str
  play: str
  mean: float  # Of the first player.
  exploitability: float  # Sum over both players.
  splits: dict[str, Split]  # By the way in which chance is labelled.
  first_order: dict[str, Estimated]  # E1; all estimates are for a shuffled deck.
  total: dict[str, Estimated]  # E2
  components: dict[str, Estimated]  # E3
  coverage: dict[str, Coverage]  # E4


class HoldemPart(TypedDict):
  """The results for hold'em with sampled hands and a fixed way to play."""

  game: str
  play: str
  mean: float  # Of the first player, in big blinds.
  exploitability: float | None  # None: best responses are not known.
  jams: float | None  # Share of deals in which the first player jams.
  calls: float | None  # Share in which the second would call.
  variance: float
  first_order: dict[str, Estimated]
  total: dict[str, Estimated]


class Results(TypedDict):
  """The content of results.json."""

  parts: list[Part]
  holdem: list[HoldemPart]
  largest_z: dict[str, float]  # By estimator, over all parts and factors.


def assemble(parts: Mapping[str, Part | HoldemPart]) -> Results:
  """Return the results of all parts."""
  holdem = {name: part for name, part in parts.items() if name.startswith("holdem")}
  of = [cast(Part, part) for name, part in parts.items() if name not in holdem]
  hands = [cast(HoldemPart, part) for part in holdem.values()]
  estimates = {
    "E1": [each for part in (*of, *hands) for each in part["first_order"].values()],
    "E2": [each for part in (*of, *hands) for each in part["total"].values()],
    "E3": [each for part in of for each in part["components"].values()],
  }
  largest = {
    name: max((abs(z) for each in own if (z := _z(each)) is not None), default=0.0)
    for name, own in estimates.items()
  }
  return {"parts": of, "holdem": hands, "largest_z": largest}


def table(results: Results) -> str:
  """Return tables of closed forms, estimates and intervals, in Markdown."""
  z = ", ".join(f"{name} {value:.1f}" for name, value in results["largest_z"].items())
  made = []
  if results["parts"]:
    made += [split_table(results), chance_table(results), estimate_table(results)]
  if results["holdem"]:
    made.append(holdem_table(results))
  made.append(f"Standard errors between estimate and closed form, at most: {z}.")
  if results["parts"]:
    made.append(coverage_table(results))
  return "\n\n".join(made)


def split_table(results: Results) -> str:
  """Return a row for each game and play: shares of variance, with a shuffled deck."""
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
  """Return a row for each game and play: the share of chance, by its labelling."""
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
  """Return a row for each game and play: estimates beside the closed form."""
  header, rows = ["game", "play"], []
  for part in results["parts"]:
    kinds = {"V": part["first_order"], "T": part["total"]}
    if not rows:
      header += [f"{name}: {kind}" for kind, of in kinds.items() for name in of]
    cells = (
      f"{each['estimate']:z.3f} ± {each['standard_error']:.3f}"
      f" ({each['exact'] or 0:z.3f})"
      for of in kinds.values()
      for each in of.values()
    )
    rows.append([*_names(part), *cells])
  return tables.markdown(header, rows)


def holdem_table(results: Results) -> str:
  """Return a row for each play of hold'em: estimated shares of the variance."""
  header = ["game", "play", "mean", "exploitability", "jams", "calls", "variance"]
  rows = []
  for part in results["holdem"]:
    kinds = {"V": part["first_order"], "T": part["total"]}
    if not rows:
      header += [f"{name}: {kind}" for kind, of in kinds.items() for name in of]
    lost = part["exploitability"]
    cells = (
      _share(each, part["variance"]) for of in kinds.values() for each in of.values()
    )
    known = "not known" if lost is None else f"{lost:z.4f}"
    shares = ("" if part[k] is None else f"{part[k]:.1%}" for k in ("jams", "calls"))
    mean, spread = f"{part['mean']:z.4f}", f"{part['variance']:.3f}"
    rows.append([part["game"], part["play"], mean, known, *shares, spread, *cells])
  return tables.markdown(header, rows)


def coverage_table(results: Results) -> str:
  """Return a row for each game and play: intervals that contain the component."""
  names = list(results["parts"][0]["coverage"])
  rows = [
    [*_names(part), *(_held(part["coverage"][name]) for name in names)]
    for part in results["parts"]
    if set(part["coverage"]) == set(names)
  ]
  return tables.markdown(["game", "play", *names], rows)


def _share(each: Estimated, whole: float) -> str:
  """Return an estimate as a share, with its error and, if known, the closed form."""
  exact, error = each["exact"], each["standard_error"]
  known = "" if exact is None else f" ({exact / whole:z.1%})"
  return f"{each['estimate'] / whole:z.1%} ± {error / whole:.1%}{known}"


def _names(part: Part) -> tuple[str, str]:
  return part["game"], part["play"]


def _held(each: Coverage) -> str:
  return f"{each['held']} of {each['tables']}"


def _z(each: Estimated) -> float | None:
  """Return the difference in standard errors; None if nothing varies."""
  error, exact = each["standard_error"], each["exact"]
  if exact is None or error <= 1e-9:
    return None
  return (each["estimate"] - exact) / error
