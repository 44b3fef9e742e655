"""Value-aware distillation: KL weighted by what it changes in the score.

A row's probability is a return, its prefix the state and its next token the action;
with the student in the place of the learned model, the identity of tabular.py says

  p_T(row) - p_S(row) =
    sum_t prod_{i<t} p_T(y_i) * (p_T(y_t) - p_S(y_t)) * prod_{i>t} p_S(y_i)

so what a position changes in the score is at most |p_T(y_t) - p_S(y_t)|, its weight.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import Share
from undo_jax.utils.types import Objective, SumCount


def value_aware_kl(
  student_logits_BxLxV: jax.Array,
  teacher_logits_BxLxV: jax.Array,
  targets_BxL: jax.Array,
  mask_BxL: jax.Array,
  share: float = 1.0,
) -> SumCount:
  """Sum KL(teacher || student) by weights that average 1 over the batch's positions.

  w[t] = 1 - share + share * c[t] / mean(c),  c[t] = |p_T[t, y_t] - p_S[t, y_t]|

  Args:
    student_logits_BxLxV: [B, L, V]; the gradient flows here, but not through w.
    teacher_logits_BxLxV: [B, L, V]; no gradient flows here.
    targets_BxL: int [B, L], the rows' next tokens y.
    mask_BxL: [B, L], 1 where a position counts.
    share: in [0, 1], of the weights that follow the score; 0 is plain KL.

  Returns:
    SumCount of float32 scalars; its mean is nats per token.
  """
  teacher = jax.lax.stop_gradient(teacher_logits_BxLxV).astype(jnp.float32)
  log_p_T = jax.nn.log_softmax(teacher)
  log_p_S = jax.nn.log_softmax(student_logits_BxLxV.astype(jnp.float32))
  kl_BxL = jnp.sum(jnp.exp(log_p_T) * (log_p_T - log_p_S), axis=-1)
  p_T_BxL, p_S_BxL = (
    jnp.exp(jnp.take_along_axis(log_p, targets_BxL[..., None], axis=-1)[..., 0])
    for log_p in (log_p_T, log_p_S)
  )
  changed_BxL = jax.lax.stop_gradient(jnp.abs(p_T_BxL - p_S_BxL))
  mean = masked_sum(changed_BxL, mask_BxL).mean()
  relative_BxL = changed_BxL / jnp.maximum(mean, jnp.finfo(jnp.float32).tiny)
  return masked_sum((1 - share + share * relative_BxL) * kl_BxL, mask_BxL)


def make(apply: Callable, *, share: Share = 1.0) -> Objective:
  """Return L = value_aware_kl of params and frozen["teacher"] on `batch`."""

  def objective(params, frozen, batch, key):
    del key
    student, teacher = (
      apply(each, batch["inputs"]).logits for each in (params, frozen["teacher"])
    )
    loss = value_aware_kl(student, teacher, batch["targets"], batch["mask"], share)
    return loss, {"value_aware_kl": loss}

  return objective


METHOD = Method(
  make=make,
  trains=("batch",),
  reads=("batch",),
  frozen=("teacher",),
  label="value-aware distillation",
)
