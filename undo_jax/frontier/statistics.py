"""Several seeds as one: means with their intervals.

The worst attack and learning rate are each seed's own; mean and interval over the K
seeds come after. A value that a model lacks is None: it was not attacked, or has
diverged.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import math
from typing import Literal

import numpy as np
from scipy import special

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import robustness as rb
from undo_jax.frontier.results import Relearning, Results, Score

Role = Literal["base", "filtered", "unlearned"]
Kind = Literal["retain", "forget"]


@dataclasses.dataclass(frozen=True)
class Mean:
  """One number of several seeds."""

  value: float
  half_width: float | None  # Of the interval; None: one seed has none.
  by_seed: tuple[float, ...]  # [K]


def mean(values: Iterable[float | None]) -> Mean | None:
  """Return the mean of seeds and its 95 % interval; None if a seed has no value.

  mean ± t * s / sqrt(K), with s the standard deviation of the sample and t the 97.5 %
  quantile of Student's t with K - 1 degrees of freedom

  Reference: Student, The probable error of a mean, Biometrika 6 (1908).
  """
  given = tuple(values)
  known = tuple(value for value in given if value is not None)
  if not known or len(known) < len(given):
    return None
  if len(known) == 1:
    return Mean(known[0], None, known)
  count = len(known)
  center = math.fsum(known) / count
  variance = math.fsum((value - center) ** 2 for value in known) / (count - 1)
  half = float(special.stdtrit(count - 1, 0.975)) * math.sqrt(variance / count)
  return Mean(center, half, known)


def reference(results: Results, role: Role) -> str | None:
  """Return the model of a role, None if there is none."""
  name = getattr(results.references, role)
  return name if name in results.models else None


def before(results: Results, name: str, kind: Kind) -> Mean | None:
  """Return a model's retain or forget score before any attack."""
  return mean(getattr(run.before, kind) for run in results.models[name].runs)


def worst_forget(
  results: Results, name: str, budget: int, attacks: Sequence[str] | None = None
) -> Mean | None:
  """Return the worst forget score over attacks and learning rates after a budget.

  Args:
    results: the results.
    name: of the model.
    budget: relearning updates.
    attacks: by name; None: those that the worst case is over.
  """
  return _under(results, name, budget, lambda u, step: u.worst_forget[step], attacks)


def cross_fitted(
  results: Results, name: str, budget: int, attacks: Sequence[str] | None = None
) -> Mean | None:
  """Return the forget score under the attack that other repetitions chose.

  The attack, its learning rate and the step within the budget are chosen on all but one
  seed of the attack and scored on that one, mean over which is held out; where an
  attack has one seed, likewise over seeds of the defense. See robustness.cross_fitted.

  Args:
    results: the results.
    name: of the model.
    budget: relearning updates.
    attacks: by name; None: those that the worst case is over.

  Returns:
    None where nothing is repeated, or the model was not attacked by one of them.
  """
  chosen = rb.counted(results) if attacks is None else attacks
  more_is_worse = higher_is_worse(results.metrics["forget"])
  runs = results.models[name].runs
  if not chosen or any(n not in run.attacks for run in runs for n in chosen):
    return None
  by_run = [_choices([run.attacks[n] for n in chosen]) for run in runs]
  by_run = [scores[..., steps <= budget] for scores, steps in by_run]
  repetitions = {len(scores) for scores in by_run}
  if min(repetitions) > 1:
    held_out = [rb.cross_fitted(s, higher_is_worse=more_is_worse) for s in by_run]
    return mean(math.fsum(scores) / len(scores) for scores in held_out)
  if len(runs) > 1 and repetitions == {1}:
    together = np.concatenate(by_run)
    return mean(rb.cross_fitted(together, higher_is_worse=more_is_worse))
  return None


def _choices(attacks: Sequence[Relearning]) -> tuple[np.ndarray, np.ndarray]:
  """Return the forget scores [A, M] of a model's attacks, and steps [M] of each."""
  scores = [each.reshape(len(each), -1) for each in rb.aligned(attacks)]
  steps = [np.tile(each.steps, len(each.learning_rates)) for each in attacks]
  return np.concatenate(scores, axis=1), np.concatenate(steps)


def is_broken(results: Results, name: str) -> bool:
  """Whether a model lost too much of what it should keep to be called robust.

  mean retain < report.smallest_retain * the base's, or where less is better
  mean retain > the base's / report.smallest_retain; or a seed's is not finite
  """
  base = reference(results, "base")
  own, whole = (before(results, n, "retain") if n else None for n in (name, base))
  if own is None or whole is None:
    return own is None
  share = results.report.smallest_retain
  if higher_is_worse(results.metrics["retain"]):
    return own.value < share * whole.value
  return own.value * share > whole.value


def binomial_half_width(score: float, count: int) -> float:
  """Return half of Wilson's 95 % interval of an accuracy over so many items.

  Reference: Wilson, Probable inference, JASA 22 (1927).
  """
  from scipy import stats  # Here, since it takes a second.

  interval = stats.binomtest(round(score * count), count).proportion_ci(method="wilson")
  return (interval.high - interval.low) / 2


def filtered_models(results: Results) -> list[str]:
  """Return references.filtered and all members of report.filtering."""
  known, families = reference(results, "filtered"), results.report.filtering
  return [
    name
    for name, model in results.models.items()
    if name == known or {name, model.family} & {*families}
  ]


def compute_at_equal_retain(results: Results, name: str) -> Mean | None:
  """Return a model's FLOPs as a part of data filtering's that retains as much.

  That is the cheapest of `filtered_models` whose retain interval reaches the model's;
  None if there is none.
  """
  sign = 1 if higher_is_worse(results.metrics["retain"]) else -1
  own = before(results, name, "retain")
  if own is None:
    return None
  costs = []
  for member in filtered_models(results):
    retain = before(results, member, "retain")
    if retain is None:
      continue
    gap = sign * (own.value - retain.value)
    if gap <= (own.half_width or 0.0) + (retain.half_width or 0.0):
      flops = [run.compute.flops for run in results.models[member].runs]
      costs.append(math.fsum(flops) / len(flops))
  if not costs or not min(costs):
    return None
  cheapest = min(costs)
  return mean(run.compute.flops / cheapest for run in results.models[name].runs)


def retain_under(results: Results, name: str, budget: int) -> Mean | None:
  """Return the retain score where the forget score is the worst."""
  return _under(results, name, budget, lambda under, step: under.retain[step])


def task_score(
  results: Results, name: str, task: str, budget: int | None
) -> Mean | None:
  """Return a score by task: where the forget score is the worst, or before (None)."""
  if budget is None:
    return mean(run.before.by_task.get(task) for run in results.models[name].runs)

  def read(under: Relearning, step: int) -> Score:
    return under.by_task[task][step] if task in under.by_task else None

  return _under(results, name, budget, read)


def curve(
  results: Results, name: str, attacks: Sequence[str]
) -> tuple[list[int], list[Mean]]:
  """Return the evaluated steps of attacks, and the worst forget score at each."""
  run = results.models[name].runs[0]
  steps = {s for n in attacks if n in run.attacks for s in run.attacks[n].steps}
  scores = [worst_forget(results, name, step, attacks) for step in sorted(steps)]
  return sorted(steps), [score for score in scores if score is not None]


def robustness_after(results: Results, name: str, budget: int) -> Mean | None:
  """Return a model's robustness after a budget, of each seed by its own references.

  None where there are none or, of some seed, the two coincide.
  """
  known = by_seed(results, (name, *endpoints(results)), budget)
  return mean(
    rb.robustness(model, unlearned_score=unlearned, filtered_score=filtered)
    for model, unlearned, filtered in known
  )


def endpoints(results: Results) -> tuple[str | None, str | None]:
  """Return the models of robustness 0 and 1."""
  return reference(results, "unlearned"), reference(results, "filtered")


def by_seed(
  results: Results, names: Sequence[str | None], budget: int
) -> list[tuple[float, ...]]:
  """Return the worst forget scores of models at each seed that all have, if any."""
  if None in names:
    return []
  scores = [_of_seeds(results, n, worst_forget(results, n, budget)) for n in names if n]
  return _at_common(scores)


def _of_seeds(results: Results, name: str, mean: Mean | None) -> dict[int, float]:
  """Return a model's numbers by seed."""
  if mean is None:
    return {}
  seeds = (run.seed for run in results.models[name].runs)
  return dict(zip(seeds, mean.by_seed, strict=True))


def _at_common(scores: Sequence[dict[int, float]]) -> list[tuple[float, ...]]:
  first, *others = scores
  common = [seed for seed in first if all(seed in other for other in others)]
  return [tuple(of[seed] for of in scores) for seed in common]


def compute(results: Results, name: str) -> Mean | None:
  """Return a model's FLOPs as a part of data filtering's."""
  runs = results.models[name].runs
  return mean(run.compute.fraction_of_filtered for run in runs)


def labelled(results: Results, name: str) -> Mean | None:
  """Return a model's labelled tokens as a part of those of pretraining."""
  runs = results.models[name].runs
  return mean(run.labels.share_of_pretraining for run in runs)


def selected(results: Results, name: str) -> tuple[float, float, float] | None:
  """Return how many labelled rows a model's selections used, and how good they are.

  Returns:
    Means over seeds: labelled rows of all selections, and of the least precise one
    precision and recall. None if nothing was selected.
  """
  by_run = [run.labels.selected for run in results.models[name].runs]
  if not all(by_run):
    return None
  worst = [min(selections, key=lambda each: each.precision) for selections in by_run]
  rows = [sum(sum(each.rows.values()) for each in selections) for selections in by_run]
  precisions, recalls = zip(*((x.precision, x.recall) for x in worst), strict=True)
  mean_rows, precision, recall = (
    math.fsum(values) / len(by_run) for values in (rows, precisions, recalls)
  )
  return mean_rows, precision, recall


def capability(results: Results) -> dict[int, tuple[float, float]]:
  """Return the forget scores of the base and of no capability by seed.

  The latter is 0, or where lower is worse that of data filtering: zero nats would be
  perfect capability. Empty where a reference has no such score.
  """
  base, filtered = reference(results, "base"), reference(results, "filtered")
  full, none = (
    _of_seeds(results, name, before(results, name, "forget")) if name else {}
    for name in (base, filtered)
  )
  if higher_is_worse(results.metrics["forget"]):
    return {seed: (score, 0.0) for seed, score in full.items()}
  return {seed: (full[seed], none[seed]) for seed in full if seed in none}


def recovery(results: Results, name: str, fraction: float = 0.5) -> list[int | None]:
  """Return the updates that win back a part of the base's capability, seed by seed.

  the least over attacks of robustness.slowdown; None is censored

  Returns:
    Nothing where a score that they are counted from is not there.
  """
  updates: list[int | None] = []
  known = capability(results)
  for run in results.models[name].runs:
    if run.seed not in known:
      continue
    base, floor = known[run.seed]
    relearned = [run.attacks[n] for n in rb.counted(results) if n in run.attacks]
    if not relearned or rb.coincide(base, floor):
      return []
    steps = [
      rb.slowdown(each, base_score=base, floor=floor, fraction=fraction)
      for each in relearned
    ]
    updates.append(min((step for step in steps if step is not None), default=None))
  return updates


@dataclasses.dataclass(frozen=True)
class Recovery:
  """How long attackers need to win back a part of the base's capability."""

  fraction: float  # Of the base's.
  median: float | None  # Updates; None: fewer than half of the seeds have recovered.
  last: int  # The last evaluated update: who has not recovered is censored there.
  recovered: int  # How many of the seeds ...
  seeds: int
  tokens: float | None  # That an attacker reads until the median, of the costliest.
  flops: float | None  # Likewise.


def recovery_time(results: Results, name: str, fraction: float) -> Recovery | None:
  """Return the median of the updates to recovery over seeds, some of them censored.

  median = the least t with S(t) <= 1/2, S the Kaplan-Meier estimate of the share that
  has not recovered after t updates

  Returns:
    None where a score that the updates are counted from is not there.

  Reference: Kaplan and Meier, JASA 53 (1958).
  """
  from scipy import stats  # Here, since it takes a second.

  updates = recovery(results, name, fraction)
  if not updates:
    return None
  runs = results.models[name].runs
  attacks = [
    run.attacks[n] for run in runs for n in rb.counted(results) if n in run.attacks
  ]
  last = max(attack.steps[-1] for attack in attacks)
  known = [step for step in updates if step is not None]
  survival = stats.ecdf(
    stats.CensoredData(uncensored=known, right=[last] * (len(updates) - len(known)))
  ).sf
  reached = survival.quantiles[survival.probabilities <= 0.5]
  median = float(reached[0]) if known and len(reached) else None

  def spent(per_update: float) -> float | None:
    return None if median is None else median * per_update

  return Recovery(
    fraction=fraction,
    median=median,
    last=last,
    recovered=len(known),
    seeds=len(updates),
    tokens=spent(max(attack.tokens_per_update for attack in attacks)),
    flops=spent(max(attack.flops_per_update for attack in attacks)),
  )


def _under(
  results: Results,
  name: str,
  budget: int,
  read: Callable[[Relearning, int], Score],
  attacks: Sequence[str] | None = None,
) -> Mean | None:
  """Return what `read` says of each seed's strongest attack at its last step."""
  chosen = rb.counted(results) if attacks is None else attacks
  more_is_worse = higher_is_worse(results.metrics["forget"])
  strongest = (
    rb.strongest(run, chosen, budget, higher_is_worse=more_is_worse)
    for run in results.models[name].runs
  )
  return mean(
    None if under is None else read(under, rb.step_index(under.steps, budget))
    for under in strongest
  )
