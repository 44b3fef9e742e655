"""WGA: gradient ascent, weighted by the likelihood that is left."""

from collections.abc import Callable

from undo_jax.objectives import retention, satimp
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  exponent: NotNegative = 1.0,
) -> Objective:
  """Return L = forget_weight * mean_t p[t]^exponent log p[t] + retain_weight * R.

  p[t] is the probability of a forget target, whose power has no gradient: the ascent
  ends where nothing is left. R is the retain term, see retention.

  Reference: Wang et al., Rethinking LLM Unlearning Objectives, arXiv 2502.19301.
  """
  return satimp.make(
    apply,
    retain_weight=retain_weight,
    forget_weight=forget_weight,
    retain_loss=retain_loss,
    saturation=exponent,
    importance=0.0,
  )


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=retention.needs,
  is_unlearning=True,
  label="WGA",
  color="#c98b2b",
  marker="^",
)
