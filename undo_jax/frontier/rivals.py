"""Does a model resist relearning better than a rival family for the same compute?"""

import math

from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import statistics
from undo_jax.frontier.results import Results

SLACK = 0.05  # Two costs that differ by a smaller part are equal.


def family(results: Results) -> list[str]:
  """Return the models that others are compared with: those of results.report.rival."""
  rival = results.report.rival
  if rival is None:
    return []
  models = results.models.items()
  return [name for name, model in models if rival in (name, model.family)]


def challengers(results: Results) -> list[str]:
  """Return the models that are compared with the family: not references, not free."""
  rivals, references = family(results), results.references
  others = {*rivals, references.base, references.filtered, references.unlearned}
  if not rivals:
    return []
  return [
    name for name in results.models if name not in others and flops(results, name) > 0
  ]


def rival(results: Results, name: str, budget: int) -> str | None:
  """Choose the most robust member of the family that costs no more than a model.

  that of the least capable worst forget score after the budget, among those with
  flops <= (1 + SLACK) * the model's

  Args:
    results: of one seed or several, whose means are compared.
    name: of the model.
    budget: relearning updates.

  Returns:
    The name of the rival; None if every member costs more.
  """
  limit = (1 + SLACK) * flops(results, name)
  scores = {
    member: statistics.worst_forget(results, member, budget)
    for member in family(results)
    if flops(results, member) <= limit
  }
  sign = _sign(results)
  attacked = {n: sign * score.value for n, score in scores.items() if score is not None}
  return min(attacked, key=lambda member: attacked[member], default=None)


def margins(results: Results, name: str, other: str, budget: int) -> list[float]:
  """Return by how much a model is less capable than another, for each seed.

  other's worst forget score after the budget - the model's, of scores that rise with
  the capability; else the other way round. Above 0 the model is more robust. Empty if
  one of them was not attacked.
  """
  sign = _sign(results)
  known = statistics.by_seed(results, (name, other), budget)
  return [sign * (theirs - mine) for mine, theirs in known]


def flops(results: Results, name: str) -> float:
  """Return the mean cost of a model."""
  runs = results.models[name].runs
  return math.fsum(run.compute.flops for run in runs) / len(runs)


def _sign(results: Results) -> int:
  return 1 if higher_is_worse(results.metrics["forget"]) else -1
