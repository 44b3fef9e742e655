"""Distillation whose gradients are routed by the source of each row; see routed.py."""

from collections.abc import Callable

from undo_jax.objectives import routed
from undo_jax.objectives.distillation import forward_kl
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective


def make(
  apply: Callable,
  *,
  routing: routed.Routing,
  coherence_weight: NotNegative = 0.0,
  trusted: bool = False,
) -> Objective:
  """Return L = KL(frozen["teacher"] || params), routed as in routed.make.

  The teacher knows what is to be forgotten; the student learns it where it can be
  removed.
  """

  def term(logits, batch, teacher):
    return forward_kl(logits, teacher, batch["mask"])

  def read(frozen, inputs):
    return apply(frozen["teacher"], inputs).logits

  terms = routed.Terms(coherence_weight, trusted)
  return routed.objective_of(apply, term, "forward_kl", routing, terms, read)


METHOD = Method(
  make=make,
  trains=("batch",),
  reads=("batch",),
  frozen=("teacher",),
  needs=routed.needs,
  sources="rows",
  label="routed distillation",
)
