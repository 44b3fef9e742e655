"""MaxEnt: push the forget predictions to uniform, keep the retain ones."""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked, retention
from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, SumCount


@chunked.summed
def uniform_kl(logits_BxLxV: jax.Array, mask_BxL: jax.Array) -> SumCount:
  """Sum KL(uniform || softmax(logits)) over the masked positions.

  sum_t mask[t] * (-log V - (1/V) * sum_v log p[t, v])

  Args:
    logits_BxLxV: [B, L, V].
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars; its mean is nats per token, 0 at uniform.

  Reference: UNDO, arXiv 2506.06278, appendix on unlearning methods.
  """
  log_probs = jax.nn.log_softmax(logits_BxLxV.astype(jnp.float32))
  kl_BxL = -math.log(logits_BxLxV.shape[-1]) - jnp.mean(log_probs, axis=-1)
  return masked_sum(kl_BxL, mask_BxL)


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
) -> Objective:
  """Return L = forget_weight * KL(U || p(forget)) + retain_weight * R(retain).

  R is the cross-entropy or the KL to frozen["reference"], see retention. For WMDP the
  paper weights the two with 1 - a and a, and takes the KL.
  """

  def term(logits, frozen, forget):
    del frozen
    uniform = uniform_kl(logits, forget["mask"])
    return uniform, {"forget_uniform_kl": uniform}

  return retention.beside(apply, term, retain_weight, forget_weight, retain_loss)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=retention.needs,
  is_unlearning=True,
  label="MaxEnt",
  color="#d55e00",
  marker="^",
)
