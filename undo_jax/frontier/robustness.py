"""How robust is forgetting? Pure functions of relearning attacks and of results.

A forget score either rises with the capability (accuracy: higher is worse) or falls
with it (cross-entropy: lower is worse); its metric says which.
Shapes: R learning rates of the attack, or strengths of an edit, S evaluated steps.
"""

import collections
from collections.abc import Sequence
import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # That module imports this one.
  from undo_jax.frontier.results import ModelRun, Relearning, Results

_COINCIDE = 1e-9  # References closer than this cannot scale a ratio.


@dataclasses.dataclass(frozen=True)
class GridEdge:
  """Where in the attack's grid the worst learning rate lies; see `edge_of_grid`."""

  at: str  # "smallest", "largest", "inside", "only" (R = 1) or "undecided" (all ties).
  learning_rate: float | None  # Most often the worst; None if undecided.
  steps: int  # Steps at which it was the worst.
  decided_steps: int  # Steps > 0 at which one learning rate alone was the worst.
  by_step: tuple[float | None, ...]  # Worst rate at each step > 0; None for a tie.


def worst_case(
  scores_RxS: np.ndarray, *, higher_is_worse: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Pick the most successful attack at every step.

  worst[s] = max_r scores[r, s]  (min_r when lower is worse)

  A diverged run (NaN) is never the worst. Ties go to the first learning rate.

  Args:
    scores_RxS: forget scores by learning rate and step.
    higher_is_worse: whether a higher forget score means more capability.

  Returns:
    worst_S, the worst scores, and argworst_S, the rows they come from.

  Raises:
    ValueError: if the scores are not a matrix or a step has no finite score.

  Reference: arXiv 2506.06278 reports relearning at the worst learning rate.
  """
  scores_RxS = np.asarray(scores_RxS, dtype=float)
  if scores_RxS.ndim != 2 or not scores_RxS.size:
    raise ValueError(f"scores must be a filled [R, S] matrix, got {scores_RxS.shape}")
  danger_RxS = scores_RxS if higher_is_worse else -scores_RxS
  danger_RxS = np.where(np.isfinite(scores_RxS), danger_RxS, -np.inf)
  if np.isneginf(danger_RxS).all(axis=0).any():
    raise ValueError("every learning rate diverged at some step: no score to compare")
  argworst_S = danger_RxS.argmax(axis=0)
  return scores_RxS[argworst_S, np.arange(scores_RxS.shape[1])], argworst_S


class Worst(NamedTuple):
  """The most successful member up to each step."""

  score_S: np.ndarray
  member_S: np.ndarray  # Which it was ...
  step_S: np.ndarray  # ... and at which step, not after the own.


def worst_within(scores_NxS: np.ndarray, *, higher_is_worse: bool) -> Worst:
  """Pick the most successful attack up to every step: an attacker may stop early.

  worst[s] = max over s' <= s of max_n scores[n, s']  (min when lower is worse)

  A diverged run (NaN) is never the worst. Ties go to the first step, then member.

  Args:
    scores_NxS: forget scores of N members of an attack at S steps.
    higher_is_worse: whether a higher forget score means more capability.

  Raises:
    ValueError: as worst_case does.
  """
  at_step_S, member_S = worst_case(scores_NxS, higher_is_worse=higher_is_worse)
  sign = 1.0 if higher_is_worse else -1.0
  step_S = np.zeros(len(at_step_S), int)
  for step in range(1, len(at_step_S)):
    best = step_S[step - 1]
    step_S[step] = step if sign * at_step_S[step] > sign * at_step_S[best] else best
  return Worst(at_step_S[step_S], member_S[step_S], step_S)


def cross_fitted(scores_NxM: np.ndarray, *, higher_is_worse: bool) -> list[float]:
  """Score the worst of M choices, chosen for each repetition by the others.

  held_out[n] = scores[n, m(n)],  m(n) = argmax_m mean over n' != n of scores[n', m]

  The largest of M noisy means is biased upward (the winner's curse); a score that had
  no part in the choice is not. A choice that diverged in any repetition is not chosen.

  Args:
    scores_NxM: forget scores of N >= 2 repetitions, seeds of the attack or of the
      defense, under M choices of attack, learning rate and step.
    higher_is_worse: whether a higher forget score means more capability.

  Returns:
    The held-out score of each repetition.

  Raises:
    ValueError: if there is but one repetition, or every choice diverged.
  """
  scores_NxM = np.asarray(scores_NxM, dtype=float)
  if len(scores_NxM) < 2:
    raise ValueError("one repetition alone cannot be held out")
  kept = scores_NxM[:, np.isfinite(scores_NxM).all(axis=0)]
  if not kept.size:
    raise ValueError("every choice diverged in some repetition")
  sign = 1.0 if higher_is_worse else -1.0
  others_NxM = kept.sum(axis=0) - kept
  chosen_N = (sign * others_NxM).argmax(axis=1)
  return kept[np.arange(len(kept)), chosen_N].tolist()


def robustness(
  model_score: float, *, unlearned_score: float, filtered_score: float
) -> float | None:
  """Place a model between unlearning alone (0) and data filtering (1).

  robustness = (unlearned - model) / (unlearned - filtered)

  The sign cancels, so the formula serves both directions of the metric.

  Args:
    model_score: worst forget score of the model after some updates of relearning.
    unlearned_score: that of the model that was unlearned only.
    filtered_score: that of the model trained on filtered data.

  Returns:
    The ratio, not clipped to [0, 1]; None where the two references coincide.

  Reference: arXiv 2506.06278, the robustness axis of its compute trade-off.
  """
  if coincide(unlearned_score, filtered_score):
    return None
  return (unlearned_score - model_score) / (unlearned_score - filtered_score)


def coincide(one: float, other: float) -> bool:
  """Tell whether two references are too close to scale a ratio."""
  return abs(one - other) < _COINCIDE


def score_at(relearned: "Relearning", budget: int) -> float:
  """Read the worst forget score that an attacker reaches within a budget.

  score = worst_forget[max {s : steps[s] <= budget}], of all steps up to it

  Args:
    relearned: a model under an attack, steps ascending.
    budget: relearning updates the attacker may spend.

  Raises:
    ValueError: if the first evaluation came after the budget.
  """
  return relearned.worst_forget[step_index(relearned.steps, budget)]


def step_index(steps: Sequence[int], budget: int) -> int:
  """Find the last evaluated step within a budget.

  index = max {s : steps[s] <= budget}

  Raises:
    ValueError: if no step lies within the budget.
  """
  index = int(np.searchsorted(steps, budget, side="right")) - 1
  if index < 0:
    raise ValueError(f"no evaluation within {budget} updates: steps are {list(steps)}")
  return index


def strongest(
  run: "ModelRun", attacks: Sequence[str], budget: int, *, higher_is_worse: bool
) -> "Relearning | None":
  """Pick the attack that wins back the most within a budget.

  argmax_a score_at(a, budget)  (argmin when lower is worse)

  Args:
    run: a model of one seed.
    attacks: names of those to choose from; those it was not attacked by do not count.
    budget: relearning updates; each attack stands at its last step within it.
    higher_is_worse: whether a higher forget score means more capability.

  Returns:
    The model under that attack, of ties the first; None if it was not attacked.
  """
  relearned = [run.attacks[name] for name in attacks if name in run.attacks]
  sign = 1 if higher_is_worse else -1
  return max(relearned, key=lambda each: sign * score_at(each, budget), default=None)


def edge_of_grid(relearned: "Relearning", *, higher_is_worse: bool) -> GridEdge:
  """Tell whether the attack's learning rates bracket the worst one.

  mode = the most common worst learning rate over the decided steps > 0, where the
  worst at a step is that of the scores at it, means over the attack's seeds

  At the edge of the grid a still smaller or larger rate might be worse, so the
  attack is not known to be bracketed. Step 0 precedes any update, and a step at which
  several rates are equally bad says nothing; neither is counted. An edit is applied at
  step 0, and its strengths are what rates are here.

  Returns:
    The position of the mode in the grid; equal counts go to the smaller rate.
  """
  grid = sorted(relearned.learning_rates)
  worst_by_step = _worst_rates(relearned, higher_is_worse)
  counts = collections.Counter(rate for rate in worst_by_step if rate is not None)
  if not counts:
    return GridEdge("undecided", None, 0, 0, worst_by_step)
  mode = min(counts, key=lambda rate: (-counts[rate], rate))
  at = {grid[0]: "smallest", grid[-1]: "largest"}.get(mode, "inside")
  return GridEdge(
    at="only" if len(grid) == 1 else at,
    learning_rate=mode,
    steps=counts[mode],
    decided_steps=counts.total(),
    by_step=worst_by_step,
  )


def diverged(relearned: "Relearning") -> list[float]:
  """Return the learning rates that have lost a score of some seed."""
  forget_RxS = relearned.forget_by_learning_rate
  retain_RxS = relearned.retain_by_learning_rate
  by_rate = zip(relearned.learning_rates, forget_RxS, retain_RxS, strict=True)
  return [rate for rate, *scores_S in by_rate if any(None in s for s in scores_S)]


def slowdown(
  relearned: "Relearning",
  *,
  base_score: float,
  floor: float = 0.0,
  fraction: float = 0.5,
) -> int | None:
  """Count the updates the attack needs to win back part of the capability.

  first step s with worst_forget[s] at or beyond floor + fraction * (base - floor)

  "Beyond" is on the base model's side of the floor, so a cross-entropy, with the
  data-filtered model's score for a floor, is recovered from above.

  Args:
    relearned: a model under an attack.
    base_score: forget score of the base model before any attack.
    floor: forget score of a model without the capability; 0 suits accuracies.
    fraction: part of the capability to win back.

  Returns:
    The first such evaluated step; None if censored (not recovered by the last step).

  Raises:
    ValueError: if the base model's score is the floor: nothing to recover.
  """
  if coincide(base_score, floor):
    raise ValueError(f"the base score {base_score} equals the floor {floor}")
  for step, score in zip(relearned.steps, relearned.worst_forget, strict=True):
    # A tiny slack keeps 0.3 / 0.6 from missing one half by a rounding error.
    if (score - floor) / (base_score - floor) >= fraction - _COINCIDE:
      return step
  return None


def counted(results: "Results") -> tuple[str, ...]:
  """Return the names of the attacks that the worst case is over.

  Those of report.worst_over; where it names none, all whose attacker lacks the base's
  weights, or if there are no others, all. Who has the base needs no attack. Diagnostics
  are never among them.
  """
  known = {n: each for n, each in results.attacks.items() if not each.is_reading}
  lacking = [name for name, each in known.items() if not each.has_base]
  return results.report.worst_over or tuple(lacking or known)


def aligned(attacks: Sequence["Relearning"]) -> list[np.ndarray]:
  """Return the forget scores [A, R, S] of attacks, with as many seeds as all have.

  An edit of one seed, which as a rule draws nothing, counts as the same under each.
  """
  scores = [np.asarray(each.forget, dtype=float) for each in attacks]
  repeats = [
    each.is_edit and len(forget) == 1
    for each, forget in zip(attacks, scores, strict=True)
  ]
  seeds = [len(s) for s, is_same in zip(scores, repeats, strict=True) if not is_same]
  fewest = min(seeds, default=1)
  return [
    np.repeat(forget, fewest, axis=0) if is_same else forget[:fewest]
    for forget, is_same in zip(scores, repeats, strict=True)
  ]


def budgets(results: "Results") -> tuple[int, ...]:
  """List the budgets at which every attacked model was evaluated.

  those of results.report.budgets that are common steps, then the last common step

  Of several attacks on a model a step of one will do. Edits, which take no updates,
  are within every budget.

  Returns:
    Ascending budgets without repetition; the last one is the whole attack. None if
    nothing was attacked; 0 alone where models were but edited.

  Raises:
    ValueError: if the models share no evaluated step > 0.
  """
  under = [
    [run.attacks[name] for name in counted(results) if name in run.attacks]
    for model in results.models.values()
    for run in model.runs
  ]
  steps = [{s for a in of_run if not a.is_edit for s in a.steps} for of_run in under]
  attacked = [of_run for of_run in steps if of_run]
  if not attacked:
    return (0,) if any(under) else ()
  common = set.intersection(*attacked) - {0}
  if not common:
    raise ValueError(
      "the models share no evaluated relearning step after step 0; name attacks that "
      "do in config.report.worst_over"
    )
  return tuple(sorted(common & {*results.report.budgets, max(common)}))


def _worst_rates(
  relearned: "Relearning", higher_is_worse: bool
) -> tuple[float | None, ...]:
  """Return the worst rate at each step that counts, None of a tie or of none."""
  scores_RxS = np.asarray(relearned.forget_by_learning_rate, dtype=float)
  danger_RxS = scores_RxS if higher_is_worse else -scores_RxS
  danger_RxS = np.where(np.isfinite(danger_RxS), danger_RxS, -np.inf)
  worst_S = danger_RxS.max(axis=0)
  is_decided_S = ((danger_RxS == worst_S).sum(axis=0) == 1) & np.isfinite(worst_S)
  rates_S = np.asarray(relearned.learning_rates)[danger_RxS.argmax(axis=0)].tolist()
  return tuple(
    rate if decided else None
    for step, rate, decided in zip(relearned.steps, rates_S, is_decided_S, strict=True)
    if step > 0 or relearned.is_edit
  )
