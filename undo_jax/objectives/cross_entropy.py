"""Masked next-token cross-entropy: pretraining and relearning."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked
from undo_jax.objectives.method import Method
from undo_jax.utils.types import Objective, SumCount


@chunked.summed
def cross_entropy(
  logits_BxLxV: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sums the negative log-likelihood of the targets, in nats.

  sum_t mask[t] * -log softmax(logits[t])[targets[t]]

  Args:
    logits_BxLxV: [B, L, V]; position t predicts targets[t] (shifted in data).
    targets_BxL: int [B, L] in [0, V).
    mask_BxL: [B, L], 1 where a position counts; others change nothing.

  Returns:
    SumCount of float32 scalars; its mean is nats per token.
  """
  log_probs = jax.nn.log_softmax(logits_BxLxV.astype(jnp.float32))
  nll_BxL = -jnp.take_along_axis(log_probs, targets_BxL[..., None], axis=-1)[..., 0]
  return masked_sum(nll_BxL, mask_BxL)


def masked_sum(values_BxL: jax.Array, mask_BxL: jax.Array) -> SumCount:
  """Returns (sum of values where mask is set, number of such positions)."""
  mask_BxL = mask_BxL.astype(jnp.float32)
  # `where` instead of a product: an infinite value under the mask stays out.
  kept_BxL = jnp.where(mask_BxL > 0, values_BxL * mask_BxL, 0.0)
  return SumCount(jnp.sum(kept_BxL), jnp.sum(mask_BxL))


def make(apply: Callable) -> Objective:
  """Returns the objective L = cross-entropy of `batch`; it reads no frozen tree."""

  def objective(params, frozen, batch, key):
    del frozen, key
    logits = apply(params, batch["inputs"]).logits
    loss = cross_entropy(logits, batch["targets"], batch["mask"])
    return loss, {"cross_entropy": loss}

  return objective


METHOD = Method(make=make, trains=("batch",), label="cross-entropy")
