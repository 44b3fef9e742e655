"""UNDIAL: self-distillation from logits in which the true token is lowered."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked, retention
from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, SumCount


@functools.cache
def lowered_target(
  penalty: float,
) -> Callable[[jax.Array, jax.Array, jax.Array, jax.Array], SumCount]:
  """Return a loss that sums the cross-entropy to a teacher with lowered targets.

  sum_t mask[t] * -sum_v q[t, v] log p[t, v],  p = softmax(logits),
  q = softmax(teacher's logits - penalty * onehot(target)), without gradient

  Args:
    penalty: of the target's logit; 0: the teacher as it is; infinite: without it.

  Returns:
    A loss of logits [B, L, V], the teacher's [B, L, V], targets [B, L] and a mask
    [B, L].

  Reference: Dong et al., UNDIAL, arXiv 2402.10052, section 3.
  """

  @chunked.summed
  def loss(logits_BxLxV, teacher_BxLxV, targets_BxL, mask_BxL):
    teacher = jax.lax.stop_gradient(teacher_BxLxV.astype(jnp.float32))
    is_target = jnp.arange(teacher.shape[-1]) == targets_BxL[..., None]
    q = jax.nn.softmax(jnp.where(is_target, teacher - penalty, teacher))
    log_p = jax.nn.log_softmax(logits_BxLxV.astype(jnp.float32))
    return masked_sum(-jnp.sum(q * log_p, axis=-1), mask_BxL)

  return loss


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
  penalty: NotNegative = 10.0,
) -> Objective:
  """Return L = forget_weight * UNDIAL(forget) + retain_weight * R(retain).

  The teacher is frozen["reference"], the model from before unlearning. Prompts and
  padding are outside of the mask and stay out. The paper has no retain term
  (retain_weight 0), and penalties from 3 to 30. R: see retention.

  Reference: Dong et al., UNDIAL, arXiv 2402.10052.
  """

  def term(logits, frozen, forget):
    teacher = apply(frozen["reference"], forget["inputs"]).logits
    loss = lowered_target(penalty)
    lost = loss(logits, teacher, forget["targets"], forget["mask"])
    return lost, {"forget_lowered_target": lost}

  return retention.beside(apply, term, retain_weight, forget_weight, retain_loss)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  reads=("forget",),
  frozen=("reference",),
  needs=retention.needs_reference("forget"),
  is_unlearning=True,
  label="UNDIAL",
  color="#4b6c2e",
  marker="d",
)
