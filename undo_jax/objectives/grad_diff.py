"""GradDiff: gradient ascent on forget data, descent on retain data."""

from collections.abc import Callable

from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.objectives.terms import weighted
from undo_jax.utils.types import Objective


def make(
  apply: Callable,
  *,
  retain_weight: float,
  forget_weight: float = 1.0,
  retain_loss: str = "cross_entropy",
) -> Objective:
  """Returns L = -forget_weight * CE(forget) + retain_weight * R(retain).

  R is the cross-entropy or the KL to frozen["reference"], see retention. The ascent
  is unbounded: its strength is set by learning rate and updates.

  Reference: UNDO, arXiv 2506.06278, appendix on unlearning methods.
  """
  retain_term = retention.make(apply, retain_loss)

  def objective(params, frozen, batch, key):
    del key
    forget, retain = batch["forget"], batch["retain"]
    logits = apply(params, forget["inputs"]).logits
    lost = cross_entropy(logits, forget["targets"], forget["mask"])
    kept, metrics = retain_term(apply(params, retain["inputs"]).logits, frozen, retain)
    loss = weighted((-forget_weight, lost), (retain_weight, kept))
    return loss, {"forget_cross_entropy": lost, **metrics}

  return objective


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=retention.needs,
  is_unlearning=True,
  label="GradDiff",
  color="#e69f00",
  marker="v",
)
