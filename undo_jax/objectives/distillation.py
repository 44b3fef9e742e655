"""Forward KL distillation: the D of UNDO."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked
from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.types import Objective, SumCount


@chunked.summed
def forward_kl(
  student_logits_BxLxV: jax.Array,
  teacher_logits_BxLxV: jax.Array,
  mask_BxL: jax.Array,
) -> SumCount:
  """Sums KL(teacher || student) over the vocabulary and the masked positions.

  sum_t mask[t] * sum_v p_T[t, v] * (log p_T[t, v] - log p_S[t, v]),  temperature 1

  Args:
    student_logits_BxLxV: [B, L, V]; the gradient flows here.
    teacher_logits_BxLxV: [B, L, V]; no gradient flows here.
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars; its mean is nats per token.

  Reference: UNDO, arXiv 2506.06278, section 3 (distillation on outputs).
  """
  teacher = jax.lax.stop_gradient(teacher_logits_BxLxV).astype(jnp.float32)
  log_p_T = jax.nn.log_softmax(teacher)
  log_p_S = jax.nn.log_softmax(student_logits_BxLxV.astype(jnp.float32))
  kl_BxL = jnp.sum(jnp.exp(log_p_T) * (log_p_T - log_p_S), axis=-1)
  return masked_sum(kl_BxL, mask_BxL)


def make(apply: Callable) -> Objective:
  """Returns the objective L = KL(frozen["teacher"] || params) on `batch`."""

  def objective(params, frozen, batch, key):
    del key
    teacher = apply(frozen["teacher"], batch["inputs"]).logits
    student = apply(params, batch["inputs"]).logits
    loss = forward_kl(student, teacher, batch["mask"])
    return loss, {"forward_kl": loss}

  return objective
