"""GradDiff: gradient ascent on forget data, descent on retain data."""

from collections.abc import Callable

from undo_jax.objectives import retention
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, SumCount


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
) -> Objective:
  """Return L = -forget_weight * CE(forget) + retain_weight * R(retain).

  R is the cross-entropy or the KL to frozen["reference"], see retention. The ascent
  is unbounded: its strength is set by learning rate and updates.

  Reference: UNDO, arXiv 2506.06278, appendix on unlearning methods.
  """

  def term(logits, frozen, forget):
    del frozen
    lost = cross_entropy(logits, forget["targets"], forget["mask"])
    return SumCount(-lost.sum, lost.count), {"forget_cross_entropy": lost}

  return retention.beside(apply, term, retain_weight, forget_weight, retain_loss)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=retention.needs,
  is_unlearning=True,
  label="GradDiff",
  color="#e69f00",
  marker="v",
)
