"""Log-probabilities of given tokens, without those of all others."""

from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked


def of_tokens(logits: Any, ids_BxPxC: jax.Array) -> jax.Array:
  """Compute log p(id) = logit(id) - log sum_v exp(logit(v)), in float32.

  Args:
    logits: an array [B, P, V], or Deferred, which are computed a chunk of positions at
      a time.
    ids_BxPxC: int32, C tokens whose log-probabilities to compute at each position.

  Returns:
    float32 [B, P, C], in nats.
  """

  def of_position(logits_BxPxV, ids_BxPxC):
    logits_BxPxV = logits_BxPxV.astype(jnp.float32)
    chosen_BxPxC = jnp.take_along_axis(logits_BxPxV, ids_BxPxC, axis=-1)
    return chosen_BxPxC - jax.nn.logsumexp(logits_BxPxV, axis=-1, keepdims=True)

  return chunked.mapped(of_position, logits, ids_BxPxC)
