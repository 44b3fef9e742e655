"""Does a model resist relearning better than UNDO for the same compute?"""

from collections.abc import Mapping
from typing import Any

from undo_jax.frontier import robustness as rb

SLACK = 0.05  # Two costs that differ by a smaller part are equal.
_UNDO = "undo_alpha_"


def routed(results: Mapping[str, Any]) -> list[str]:
  """Returns the models that were ablated after routing, and UNDO on such models."""
  return [
    name
    for name, model in results["models"].items()
    if "ablation" in model or f"_{_UNDO}" in name
  ]


def rival(results: Mapping[str, Any], name: str, budget: int) -> str | None:
  """Chooses the most robust UNDO model that costs no more than a model.

  the UNDO model of the least capable worst forget score after the budget, among those
  with compute <= (1 + SLACK) * the model's

  Args:
    results: the results dict, of one seed or several (whose means are compared).
    name: of the model.
    budget: relearning updates.

  Returns:
    The name of the rival; None if every UNDO model costs more.
  """
  models = results["models"]
  limit = (1 + SLACK) * _cost(models[name])
  known = [n for n in models if n.startswith(_UNDO) and _cost(models[n]) <= limit]
  sign = _sign(results)
  return min(
    known,
    key=lambda n: sign * rb.score_at(models[n]["relearn"], budget),
    default=None,
  )


def margins(
  results: Mapping[str, Any], name: str, other: str, budget: int
) -> list[float]:
  """Returns by how much a model is less capable than another, seed by seed.

  other's worst forget score after the budget - the model's, of scores that rise with
  the capability; else the other way round. Above 0 the model is more robust.
  """
  sign = _sign(results)
  mine, theirs = (_by_seed(results["models"][n], budget) for n in (name, other))
  return [sign * (b - a) for a, b in zip(mine, theirs, strict=True)]


def _by_seed(model, budget) -> list[float]:
  relearn = model["relearn"]
  step = rb.step_index(relearn["steps"], budget)
  if "by_seed" not in model:
    return [relearn["worst_forget"][step]]
  return [worst_S[step] for worst_S in model["by_seed"]["worst_forget"]]


def _cost(model) -> float:
  return model["compute"]["fraction_of_data_filtering"]


def _sign(results) -> int:
  return 1 if rb.higher_is_worse(results["metrics"]["forget"]) else -1
