"""CE-U: toward the model's own predictions with the true token left out."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked, retention
from undo_jax.objectives.cross_entropy import masked_sum
from undo_jax.objectives.method import Method
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, SumCount


@chunked.summed
def without_target(
  logits_BxLxV: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sum the cross-entropy to the prediction that has no mass on the target.

  sum_t mask[t] * -sum_v q[t, v] log p[t, v],  p = softmax(logits),
  q = softmax(logits with the target's at -infinity), without gradient

  The gradient of a logit is p[y] of the target y and -p[y] p[v] / (1 - p[y]) of any
  other v: it vanishes as the target's probability does.

  Args:
    logits_BxLxV: [B, L, V].
    targets_BxL: int [B, L] in [0, V).
    mask_BxL: [B, L], 1 where a position counts.

  Returns:
    SumCount of float32 scalars.

  Reference: Yang, CE-U: Cross Entropy Unlearning, arXiv 2503.01224.
  """
  logits = logits_BxLxV.astype(jnp.float32)
  others = jnp.put_along_axis(
    jax.lax.stop_gradient(logits), targets_BxL[..., None], -jnp.inf, -1, inplace=False
  )
  cross = -jnp.sum(jax.nn.softmax(others) * jax.nn.log_softmax(logits), axis=-1)
  return masked_sum(cross, mask_BxL)


def make(
  apply: Callable,
  *,
  retain_weight: NotNegative,
  forget_weight: NotNegative = 1.0,
  retain_loss: retention.Loss = "cross_entropy",
) -> Objective:
  """Return L = forget_weight * CE-U(forget) + retain_weight * R(retain).

  The paper has no retain term (retain_weight 0). R: see retention.

  Reference: Yang, CE-U: Cross Entropy Unlearning, arXiv 2503.01224.
  """

  def term(logits, frozen, forget):
    del frozen
    lost = without_target(logits, forget["targets"], forget["mask"])
    return lost, {"forget_without_target": lost}

  return retention.beside(apply, term, retain_weight, forget_weight, retain_loss)


METHOD = Method(
  make=make,
  trains=("forget", "retain"),
  needs=retention.needs,
  is_unlearning=True,
  label="CE-U",
  color="#7b3f61",
  marker="p",
)
