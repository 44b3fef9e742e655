"""Distillation by selective gradient masking: ours, after sgtm.py."""

from collections.abc import Callable

from undo_jax.objectives import sgtm
from undo_jax.objectives.distillation import forward_kl
from undo_jax.objectives.method import Method
from undo_jax.objectives.routed import Routing
from undo_jax.utils.types import Objective


def make(apply: Callable, *, routing: Routing) -> Objective:
  """Return the objective of sgtm.make with KL(frozen["teacher"] || params) for CE.

  Ours, after SGTM: the teacher knows what is to be forgotten.
  """

  def term(logits, part, frozen):
    teacher = apply(frozen["teacher"], part["inputs"]).logits
    return forward_kl(logits, teacher, part["mask"])

  return sgtm.objective_of(apply, term, "forward_kl", routing)


METHOD = Method(
  make=make,
  trains=("batch",),
  reads=("batch",),
  frozen=("teacher",),
  sources="parts",
  gradient_masks=sgtm.masks,
  label="SGTM distillation",
)
