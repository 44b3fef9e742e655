"""The results of the study: results.json and its tables."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypedDict, cast

import numpy as np

from undo_jax.frontier import statistics
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


class ControlPart(TypedDict):
  """Of an environment: by method, [seeds, stages]."""

  environment: str
  real_steps: list[int]  # In the environment, by stage.
  returned: dict[str, list[list[float]]]
  squared_error: dict[str, list[list[float]]]  # Normalized, on new episodes.
  value_error: dict[str, list[list[float]]]  # |V(s') - V(s^)| there.


Part: TypeAlias = TablesPart | ToyPart | ControlPart


class Results(TypedDict):
  """The content of results.json."""

  tables: TablesPart
  toy: list[ToyPart]
  control: list[ControlPart]


def assemble(parts: Mapping[str, Part]) -> Results:
  """Return the parts by kind."""
  by_kind: dict[str, list[Part]] = {"toy": [], "control": [], "tables": []}
  for name, part in parts.items():
    by_kind[name.partition("_")[0]].append(part)
  (tables_part,) = by_kind["tables"]
  return {
    "tables": cast(TablesPart, tables_part),
    "toy": cast(list[ToyPart], by_kind["toy"]),
    "control": cast(list[ControlPart], by_kind["control"]),
  }


def table(results: Results) -> str:
  """Return all tables in Markdown."""
  made = [tables_table(results["tables"]), toy_table(results["toy"])]
  for part in results["control"]:
    made += [f"{part['environment']}:", control_table(part)]
  return "\n\n".join(made)


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


def control_table(part: ControlPart) -> str:
  """Return a row a method: means over seeds with intervals of 95 %."""
  half = max(len(part["real_steps"]) // 2 - 1, 0)
  rows = []
  for method, by_seed in part["returned"].items():
    values = np.array(by_seed)
    cells = [_with_interval(values[:, at]) for at in (half, -1)]
    cells.append(_with_interval(values.mean(axis=1)))
    for errors in (part["squared_error"], part["value_error"]):
      cells.append(f"{np.median(np.array(errors[method])[:, -1]):.3g}")
    rows.append([method, *cells])
  steps = part["real_steps"]
  header = ["model trained by", f"return at {steps[half]:,} steps"]
  header += [f"at {steps[-1]:,}", "mean of all stages"]
  return tables.markdown([*header, "squared error", "value error"], rows)


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
  """Return the mean of seeds and half of its interval of 95 %."""
  mean = statistics.mean(map(float, values))
  assert mean is not None and mean.half_width is not None
  return mean.value, mean.half_width


def _with_interval(values: np.ndarray) -> str:
  mean, half = interval(values)
  return f"{mean:.0f} ± {half:.0f}"
