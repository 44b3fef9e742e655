"""What attacks leave, as results have it: scores by member and step, and the worst."""

from collections.abc import Sequence
import math

import numpy as np

from undo_jax import attacks
from undo_jax.frontier.results import Adversary, Relearning, Score
from undo_jax.frontier.robustness import worst_case, worst_within
from undo_jax.plan.attack_entries import EditEntry, Entry
from undo_jax.utils.types import JsonObject


def relearning(
  outcomes: Sequence[JsonObject],
  *,
  directories: Sequence[str],
  higher_is_worse: bool,
) -> Relearning:
  """Return a model under an attack from what each seed of the attack left.

  Args:
    outcomes: done.json of each: learning_rates (of an edit strengths) [R], steps [S],
      scores [R][S] by name, retain and forget among them, and the cost of an update.
    directories: of each, below WORKDIR/stages.
    higher_is_worse: whether a higher forget score means more capability.
  """
  first = outcomes[0]
  scores = {
    name: np.stack([_matrix(outcome["scores"][name]) for outcome in outcomes])
    for name in first["scores"]
  }
  forget_AxRxS = scores["forget"]
  seeds, rates, steps = forget_AxRxS.shape
  flat = forget_AxRxS.reshape(seeds * rates, steps)
  worst = worst_within(flat, higher_is_worse=higher_is_worse)
  at_step_S, _ = worst_case(flat, higher_is_worse=higher_is_worse)
  at_worst = {
    name: _plain(values.reshape(flat.shape)[worst.member_S, worst.step_S])
    for name, values in scores.items()
  }
  grid = tuple(first["strengths" if "strengths" in first else "learning_rates"])
  cost = first["cost"]
  return Relearning(
    learning_rates=grid,
    steps=tuple(first["steps"]),
    forget=_nested(forget_AxRxS),
    retain_of_all=_nested(scores["retain"]),
    worst_forget=tuple(worst.score_S.tolist()),
    forget_at_step=tuple(at_step_S.tolist()),
    worst_learning_rate=tuple(grid[member % rates] for member in worst.member_S),
    retain=at_worst["retain"],
    by_task={n: at_worst[n] for n in at_worst if n not in ("retain", "forget")},
    forget_by_learning_rate=tuple(map(_plain, forget_AxRxS.mean(axis=0))),
    retain_by_learning_rate=tuple(map(_plain, scores["retain"].mean(axis=0))),
    directories=tuple(directories),
    tokens_per_update=cost["tokens"],
    flops_per_update=cost["flops"],
  )


def _matrix(values: Sequence[Sequence[Score]]) -> np.ndarray:
  """Return scores [R, S], NaN where a member has diverged."""
  return np.array([[math.nan if v is None else v for v in row] for row in values])


def _nested(values_AxRxS: np.ndarray) -> tuple[tuple[tuple[Score, ...], ...], ...]:
  return tuple(tuple(map(_plain, of_seed)) for of_seed in values_AxRxS)


def _plain(values: np.ndarray) -> tuple[Score, ...]:
  return tuple(v if math.isfinite(v) else None for v in values.tolist())


def adversary(entry: Entry) -> Adversary:
  """Return how the page describes an attack of the config."""
  if isinstance(entry, EditEntry):
    edit = attacks.EDITS.get(entry.edit)
    return Adversary(
      label=entry.label or edit.label,
      trains=edit.describe(edit.parse(entry.options)),
      noise=0.0,
      paths=(),
      assumes=edit.assumes,
      has_base=edit.reads_base,
      strength=edit.strength,
      goes_on=edit.goes_on,
      is_reading=edit.is_reading,
    )
  attack = attacks.REGISTRY.get(entry.adversary)
  return Adversary(
    label=entry.label or attack.label,
    trains=attack.describe(entry.options),
    noise=entry.noise.alpha,
    paths=tuple(pattern for pattern, _ in entry.trainable),
    assumes=attack.assumes,
    is_reading=attack.is_reading,
  )
