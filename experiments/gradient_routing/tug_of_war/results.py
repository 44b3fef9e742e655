"""The results of the study: results.json and its table."""

from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from experiments.gradient_routing.tug_of_war import two_parameters
from experiments.gradient_routing.tug_of_war.config import Config, TwoParameters
from experiments.gradient_routing.tug_of_war.two_tasks import TASKS, VARIANCE
from undo_jax.utils import tables

Errors = dict[str, dict[str, float]]  # "before" and "after" ablation, then by task.
Part = dict[str, Errors]  # The errors of a seed, by way.


class Trajectory(TypedDict):
  """The two parameters after some of the steps."""

  steps: list[int]
  old: list[float]
  new: list[float]


class Results(TypedDict):
  """The content of results.json."""

  seeds: list[int]
  variance: dict[str, float]  # Of the targets, by task.
  two_parameters: dict[str, Trajectory]  # By weight of the coherence term.
  two_tasks: dict[str, dict[str, Errors]]  # By way and seed.


def assemble(config: Config, parts: Mapping[str, Part]) -> Results:
  """Return the results of all parts; the two parameters are computed here."""
  tasks: dict[str, dict[str, Errors]] = {way: {} for way in config.two_tasks.ways}
  for seed, part in zip(config.seeds, parts.values(), strict=True):
    for way in tasks:
      tasks[way][str(seed)] = part[way]
  block = config.two_parameters
  return {
    "seeds": list(config.seeds),
    "variance": VARIANCE,
    "two_parameters": {
      f"{weight:g}": _trajectory(block, weight) for weight in block.coherence
    },
    "two_tasks": tasks,
  }


def _trajectory(block: TwoParameters, weight: float) -> Trajectory:
  theta = np.asarray(two_parameters.train(weight, block.num_steps, block.learning_rate))
  kept = np.arange(block.record_every - 1, len(theta), block.record_every)
  return {
    "steps": (kept + 1).tolist(),
    "old": theta[kept, 0].tolist(),
    "new": theta[kept, 1].tolist(),
  }


def table(results: Results) -> str:
  """Return the errors of the two tasks in Markdown, with every seed in a cell."""
  columns = [(when, task) for when in ("before", "after") for task in TASKS]
  header = ["way", *(f"{task}, {when} ablation" for when, task in columns)]
  rows = []
  for way, of_seed in results["two_tasks"].items():
    cells = (
      " ".join(f"{errors[when][task]:.3g}" for errors in of_seed.values())
      for when, task in columns
    )
    rows.append([way, *cells])
  return tables.markdown(header, rows)
