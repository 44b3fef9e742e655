"""The results of the study: results.json and its tables."""

from collections.abc import Mapping
from typing import TypeAlias, TypedDict, cast

import numpy as np

from undo_jax.utils import tables

BOUNDS = ("absolute", "l1", "l2")  # Each is at least as wide as the one before.
_ROUNDING = 1e-6  # Relative and absolute excess over a bound that rounding may cause.


class TablesPart(TypedDict):
  """The results for random MDPs and models, in float64."""

  count: int
  largest_error: dict[str, float]  # Of each identity, against the returns.
  chains_that_hold: int
  share_of_bound: dict[str, list[float]]  # Difference divided by the bound, by MDP.
  one_state_over_truth: dict[str, float]  # Median of loss / true model's loss.


class ToyPart(TypedDict):
  """The results for a loss beside the distractor, a number for each random start."""

  loss: str
  squared_error: list[float]
  return_error: list[float]
  bound: list[float]


Part: TypeAlias = TablesPart | ToyPart


class Results(TypedDict):
  """The content of results.json."""

  tables: TablesPart
  toy: list[ToyPart]


def assemble(parts: Mapping[str, Part]) -> Results:
  """Return the parts by kind."""
  toys = [part for name, part in parts.items() if name.startswith("toy_")]
  return {
    "tables": cast(TablesPart, parts["tables"]),
    "toy": cast(list[ToyPart], toys),
  }


def table(results: Results) -> str:
  """Return both tables in Markdown."""
  return f"{tables_table(results['tables'])}\n\n{toy_table(results['toy'])}"


def tables_table(part: TablesPart) -> str:
  """Return a table of how well identities and bounds hold."""
  rows = [
    [f"largest error of the {name}", f"{error:.0e}"]
    for name, error in part["largest_error"].items()
  ]
  rows.append(["chains that hold", f"{part['chains_that_hold']} of {part['count']}"])
  for name, shares in part["share_of_bound"].items():
    text = f"{np.median(shares):.2f}, at most {max(shares):.2f}"
    rows.append([f"difference over {name}, median", text])
  for name, ratio in part["one_state_over_truth"].items():
    rows.append(
      [f"{name} of a one-state model over the truth's, median", f"{ratio:.2f}"]
    )
  return tables.markdown(["random MDPs", ""], rows)


def toy_table(parts: list[ToyPart]) -> str:
  """Return a row for each loss: medians over starts, failures, and the bound."""
  rows = []
  for part in parts:
    error, bound = np.abs(part["return_error"]), np.array(part["bound"])
    held = int((error <= bound * (1 + _ROUNDING) + _ROUNDING).sum())
    rows.append(
      [
        part["loss"],
        f"{np.median(part['squared_error']):.3g}",
        f"{np.median(error):.2g}",
        f"{int((error < 0.01).sum())} of {len(error)}",
        f"{held} of {len(error)}",
      ]
    )
  header = ["loss", "squared error", "error of the return", "below .01", "bound holds"]
  return tables.markdown(header, rows)
