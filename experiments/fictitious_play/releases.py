"""Released models against attacks, from the results of finished runs.

A row is a release, a column one way to relearn: an attack, its learning rate, and how
many updates it takes. A best response of the attacker is the attack that is tuned
against a mixture of releases; one of the defender a release that is trained against a
mixture of attacks. Here both are looked up in the table, so that many games can be
played; what is counted is how many of them a way to mix needs.

Shapes: I releases, J attacks, K agents of a side.
"""

from collections.abc import Sequence
import pathlib
from typing import NamedTuple

import numpy as np

from undo_jax.cli import compare
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import best_responses, games, merging, robustness, statistics
from undo_jax.frontier.best_responses import Mixing
from undo_jax.frontier.results import ModelResult, Results
from undo_jax.utils.errors import ConfigError


class Game(NamedTuple):
  """Releases, attacks and what the first get."""

  releases: tuple[str, ...]
  attacks: tuple[str, ...]
  payoffs_IxJ: np.ndarray


class Bounds(NamedTuple):
  """Of the value, by agents; the first agents are given. [K]"""

  lower_K: np.ndarray  # What the best attack leaves of the mixture of releases.
  upper_K: np.ndarray  # What the best release gets against the mixture of attacks.


def read(paths: Sequence[str]) -> Results:
  """Return the results of run directories and leaderboards (.jsonl) as one.

  Raises:
    ConfigError: if one of them is not there, damaged, or of another protocol.
  """
  runs: dict[str, Results] = {}
  for path in paths:
    runs |= compare.read(path, pathlib.Path("."))
  return merging.merge(runs)


def game(results: Results, price: float) -> Game:
  """Return the game of the releases that are attacked and keep what they should.

  payoff = -(forget score after the attack) - price * compute, where compute is that of
  data filtering as 1, and a score that is worse if it is lower has the other sign;
  means over seeds of models and attacks.

  Args:
    results: of a run with attacks at several learning rates.
    price: of a release that costs as much as data filtering.

  Raises:
    ConfigError: if fewer than two releases were attacked in the same way.
  """
  forgets = {}
  for name, model in results.models.items():
    if not statistics.is_broken(results, name):
      forgets[name] = _forget_by_attack(results, model)
  forgets = {name: of for name, of in forgets.items() if of}
  if len(forgets) < 2:
    raise ConfigError(
      "a game takes two releases that were attacked and are not broken, got"
      f" {', '.join(forgets) or 'none'}"
    )
  shared = [
    a for a in next(iter(forgets.values())) if all(a in f for f in forgets.values())
  ]
  if not shared:
    raise ConfigError("no attack, learning rate and update is that of every release")
  sign = -1.0 if higher_is_worse(results.metrics["forget"]) else 1.0
  payoffs = [
    [sign * of[attack] - price * _cost(results.models[name]) for attack in shared]
    for name, of in forgets.items()
  ]
  return Game(tuple(forgets), tuple(shared), np.array(payoffs))


def bounds(
  payoffs_IxJ: np.ndarray, mixing: Mixing, num_agents: int, start: tuple[int, int]
) -> Bounds:
  """Return what the mixtures guarantee after each agent of both sides.

  Args:
    payoffs_IxJ: the game.
    mixing: against which mixture agents are best responses.
    num_agents: K, the first among them.
    start: row and column of the first.
  """
  if mixing == "equilibrium":
    return _double_oracle(payoffs_IxJ, num_agents, start)
  rows, columns = (
    [first, *(i for i in range(count) if i != first)]
    for first, count in zip(start, payoffs_IxJ.shape, strict=True)
  )
  played = best_responses.population_play(
    payoffs_IxJ[np.ix_(rows, columns)].astype(np.float32),
    num_agents,
    anticipatory=mixing == "anticipatory",
  )
  return Bounds(np.asarray(played.lower_T), np.asarray(played.upper_T))


def agents_until(bounds: Bounds, gap: float) -> int | None:
  """Return how many agents it takes until upper - lower is at most `gap` for good."""
  wide = np.flatnonzero(bounds.upper_K - bounds.lower_K > gap)
  needed = int(wide[-1]) + 2 if len(wide) else 1
  return needed if needed <= len(bounds.lower_K) else None


def _double_oracle(
  payoffs_IxJ: np.ndarray, num_agents: int, start: tuple[int, int]
) -> Bounds:
  """Return the bounds where agents answer the equilibrium of those before them."""
  rows, columns = [start[0]], [start[1]]
  lower, upper = [], []
  for _ in range(num_agents):
    solution = games.solve(payoffs_IxJ[np.ix_(rows, columns)])
    against_I = payoffs_IxJ[:, columns] @ solution.column_strategy_J
    leaves_J = solution.row_strategy_I @ payoffs_IxJ[rows]
    upper.append(against_I.max())
    lower.append(leaves_J.min())
    rows += [int(against_I.argmax())]
    columns += [int(leaves_J.argmin())]
  return Bounds(np.array(lower), np.array(upper))


def _forget_by_attack(results: Results, model: ModelResult) -> dict[str, float]:
  """Return forget scores by attack, learning rate and updates; finite ones alone."""
  scores: dict[str, list[float]] = {}
  for run in model.runs:
    for name in robustness.counted(results):
      if name not in run.attacks or run.attacks[name].is_edit:
        continue
      attack = run.attacks[name]
      forget_AxRxS = np.asarray(attack.forget, dtype=float)  # None: diverged, nan.
      for r, rate in enumerate(attack.learning_rates):
        for s, step in enumerate(attack.steps[1:], start=1):
          key = f"{name}, {rate:g}, {step} updates"
          scores.setdefault(key, []).append(float(forget_AxRxS[:, r, s].mean()))
  means = {
    key: float(np.mean(of)) for key, of in scores.items() if len(of) == len(model.runs)
  }
  return {key: mean for key, mean in means.items() if np.isfinite(mean)}


def _cost(model: ModelResult) -> float:
  """Return a release's compute, where data filtering's is 1; mean over seeds."""
  fractions = [run.compute.fraction_of_filtered for run in model.runs]
  known = [fraction for fraction in fractions if fraction is not None]
  if len(known) < len(fractions):
    raise ConfigError(
      "releases have compute where the run has a model of filtered data"
    )
  return float(np.mean(known))
