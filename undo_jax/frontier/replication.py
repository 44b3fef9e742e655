"""Crossed tables of a robustness figure by its seeds, read from results.

A recipe whose streams are swept (sweep = {"streams": {"noise": (0, 1, 2)}}) is a family
of members that differ in one random stream. With the run's seeds and those of the
attack they are a crossed table, of which variance.components tells what the spread
comes from.
"""

from collections.abc import Mapping
import dataclasses

import numpy as np

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import robustness as rb
from undo_jax.frontier import variance
from undo_jax.frontier.results import ModelRun, Results
from undo_jax.utils.errors import ConfigError

RUN, ATTACK = "run", "attack"  # Factors: the run's seed, the attack's.
STREAMS = "streams."  # Before a stream's name in what is swept.


@dataclasses.dataclass(frozen=True)
class Replication:
  """One figure of a recipe under every combination of its seeds."""

  model: str  # The family, with the values that are not seeds.
  factors: tuple[str, ...]
  levels: tuple[tuple[int, ...], ...]  # Seeds of each factor; of the attack by number.
  table: np.ndarray  # An axis a factor; NaN where a combination was not run.
  attack: str  # What every cell was attacked by ...
  learning_rate: float
  step: int  # ... and the update at which it was scored.


def tables(results: Results, family: str, budget: int) -> list[Replication]:
  """Return the tables of a recipe, one for each combination of what is no seed.

  All cells have the same attack that trains, learning rate and step: the worst on
  average over all cells. Choosing anew in each cell would add noise.

  Args:
    results: the results.
    family: an entry of the models, swept or not.
    budget: relearning updates.

  Raises:
    ConfigError: if no member was attacked by training, or no factor has two levels.
  """
  members: dict[str, dict[tuple[int, ...], tuple[ModelRun, ...]]] = {}
  streams: tuple[str, ...] = ()
  for name, model in results.models.items():
    if family in (name, model.family) and all(run.attacks for run in model.runs):
      swept = {k: v for k, v in model.swept.items() if k.startswith(STREAMS)}
      streams = tuple(key.removeprefix(STREAMS) for key in swept)
      fixed = {k: v for k, v in model.swept.items() if k not in swept}
      label = ", ".join([family, *(f"{k} = {v}" for k, v in fixed.items())])
      seeds = tuple(int(seed) for seed in swept.values())
      members.setdefault(label, {})[seeds] = model.runs
  if not members:
    raise ConfigError(f"{family}: expected a model that was attacked, got none")
  return [
    _table(results, label, streams, cells, budget) for label, cells in members.items()
  ]


def components(replication: Replication) -> dict[frozenset[str], float]:
  """Return the variance components of a table; see variance.components."""
  return variance.components(replication.table, replication.factors)


def _table(
  results: Results,
  label: str,
  streams: tuple[str, ...],
  cells: Mapping[tuple[int, ...], tuple[ModelRun, ...]],
  budget: int,
) -> Replication:
  """Return the table of one combination of what is no seed."""
  run_seeds = sorted({run.seed for runs in cells.values() for run in runs})
  levels = [sorted({seeds[i] for seeds in cells}) for i in range(len(streams))]
  scores = _of_common(
    {
      (*seeds, run.seed): _scores(results, run, budget)
      for seeds, runs in cells.items()
      for run in runs
    }
  )
  if not next(iter(scores.values()))[0]:
    raise ConfigError(f"{label}: expected an attack that is on all of it, got none")
  attack, rate, step, column = _worst(results, scores)
  num_attacks = max(len(row[1]) for row in scores.values())
  all_levels = [*levels, run_seeds, list(range(num_attacks))]
  table = np.full([len(level) for level in all_levels], np.nan)
  for seeds, (_, scores_AxM) in scores.items():
    index = tuple(
      level.index(seed) for level, seed in zip(all_levels[:-1], seeds, strict=True)
    )
    table[(*index, slice(len(scores_AxM)))] = scores_AxM[:, column]
  factors = (*streams, RUN, ATTACK)
  kept = [i for i, level in enumerate(all_levels) if len(level) > 1]
  if not kept:
    raise ConfigError(
      f"{label}: expected a seed with two values or more, got one of each; sweep "
      "streams of the recipe, or give config.seeds or an attack's seeds"
    )
  return Replication(
    model=label,
    factors=tuple(factors[i] for i in kept),
    levels=tuple(tuple(all_levels[i]) for i in kept),
    table=table.reshape([len(all_levels[i]) for i in kept]),
    attack=attack,
    learning_rate=rate,
    step=step,
  )


def _scores(
  results: Results, run: ModelRun, budget: int
) -> tuple[list[tuple[str, float, int]], np.ndarray]:
  """Return the choices of an attacker who trains, and the score [A, M] of each."""
  choices, scores = [], []
  for name in rb.counted(results):
    if name not in run.attacks or run.attacks[name].is_edit:
      continue
    under = run.attacks[name]
    within = [i for i, step in enumerate(under.steps) if 0 < step <= budget]
    choices += [
      (name, rate, under.steps[i]) for rate in under.learning_rates for i in within
    ]
    forget_AxRxS = np.asarray(under.forget, dtype=float)[:, :, within]
    scores.append(forget_AxRxS.reshape(len(forget_AxRxS), -1))
  if not scores:
    return [], np.zeros((1, 0))
  fewest = min(map(len, scores))
  return choices, np.concatenate([each[:fewest] for each in scores], axis=1)


def _of_common(
  scores: Mapping[tuple[int, ...], tuple[list[tuple[str, float, int]], np.ndarray]],
) -> dict[tuple[int, ...], tuple[list[tuple[str, float, int]], np.ndarray]]:
  """Return the choices that an attacker has in every cell, and their scores."""
  first, *others = (choices for choices, _ in scores.values())
  common = [choice for choice in first if all(choice in other for other in others)]
  return {
    cell: (common, cells[:, [choices.index(choice) for choice in common]])
    for cell, (choices, cells) in scores.items()
  }


def _worst(results: Results, scores: Mapping) -> tuple[str, float, int, int]:
  """Return the choice that is the worst on the mean over all cells, and its place."""
  choices = next(iter(scores.values()))[0]
  means_M = np.concatenate([each for _, each in scores.values()]).mean(axis=0)
  sign = 1.0 if higher_is_worse(results.metrics["forget"]) else -1.0
  danger_M = np.where(np.isfinite(means_M), sign * means_M, -np.inf)
  column = int(danger_M.argmax())
  return *choices[column], column
