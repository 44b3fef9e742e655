"""GradDiff: gradient ascent on forget data, descent on retain data."""

from collections.abc import Callable

from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.terms import weighted
from undo_jax.types import Objective


def make(apply: Callable, *, retain_weight: float) -> Objective:
  """Returns the objective L = -CE(forget) + retain_weight * CE(retain).

  The ascent is unbounded: its strength is set by learning rate and updates.

  Reference: UNDO, arXiv 2506.06278, appendix on unlearning methods.
  """

  def objective(params, frozen, batch, key):
    del frozen, key
    terms = {}
    for name in ("forget", "retain"):
      part = batch[name]
      logits = apply(params, part["inputs"]).logits
      terms[name] = cross_entropy(logits, part["targets"], part["mask"])
    loss = weighted((-1.0, terms["forget"]), (retain_weight, terms["retain"]))
    return loss, {f"{name}_cross_entropy": term for name, term in terms.items()}

  return objective
