"""Masked next-token cross-entropy: pretraining and relearning."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.objectives import chunked
from undo_jax.objectives.method import Method
from undo_jax.utils.types import Objective, SumCount


@chunked.summed
def cross_entropy(
  logits_BxLxV: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array
) -> SumCount:
  """Sum the negative log-likelihood of the targets, in nats.

  sum_t mask[t] * -log softmax(logits[t])[targets[t]]

  Args:
    logits_BxLxV: [B, L, V]; position t predicts targets[t] (shifted in data).
    targets_BxL: int [B, L] in [0, V).
    mask_BxL: [B, L], 1 where a position counts; others change nothing.

  Returns:
    SumCount of float32 scalars; its mean is nats per token.
  """
  return masked_sum(token_nll(logits_BxLxV, targets_BxL), mask_BxL)


def token_nll(logits_BxLxV: jax.Array, targets_BxL: jax.Array) -> jax.Array:
  """Compute -log softmax(logits)[target] at every position, [B, L] float32."""
  log_probs = jax.nn.log_softmax(logits_BxLxV.astype(jnp.float32))
  return -jnp.take_along_axis(log_probs, targets_BxL[..., None], axis=-1)[..., 0]


def row_nll(logits: Any, targets_BxL: jax.Array, mask_BxL: jax.Array) -> jax.Array:
  """Compute the negative log-likelihood of every row, in nats.

  sum_t mask[b, t] * -log softmax(logits[b, t])[targets[b, t]]

  It is for losses that are no sum over positions, as those of a row's likelihood.

  Args:
    logits: [B, L, V] or Deferred; of the latter the gradient is exact and accumulated
      in float32, and costs a second unembedding.
    targets_BxL: int [B, L] in [0, V).
    mask_BxL: [B, L], 1 where a position counts; others change nothing.

  Returns:
    [B] float32.
  """
  if isinstance(logits, chunked.Deferred):
    return _deferred_row_nll(logits, targets_BxL, mask_BxL)
  return jnp.sum(_weighted(token_nll(logits, targets_BxL), mask_BxL), axis=1)


@jax.custom_vjp
def _deferred_row_nll(logits, targets_BxL, mask_BxL):
  nll_BxL = chunked.mapped(token_nll, logits, targets_BxL)
  return jnp.sum(_weighted(nll_BxL, mask_BxL), axis=1)


def _forward(logits, targets_BxL, mask_BxL):
  rows_B = _deferred_row_nll(logits, targets_BxL, mask_BxL)
  return rows_B, (logits, targets_BxL, mask_BxL)


def _backward(residuals, cotangent_B):
  """Pull back sum_b cotangent[b] * rows[b], which is a sum over positions."""
  logits, targets_BxL, mask_BxL = residuals
  weights_BxL = cotangent_B[:, None] * mask_BxL

  def pulled(logits):
    return _weighted_nll(logits, targets_BxL, weights_BxL).sum

  return jax.grad(pulled)(logits), None, None


_deferred_row_nll.defvjp(_forward, _backward)


@chunked.summed
def _weighted_nll(logits_BxLxV, targets_BxL, weights_BxL):
  nll_BxL = _weighted(token_nll(logits_BxLxV, targets_BxL), weights_BxL)
  return SumCount(jnp.sum(nll_BxL), jnp.zeros(()))


def _weighted(values_BxL, weights_BxL):
  """Return the products; an infinite value of no weight stays out."""
  return jnp.where(weights_BxL != 0, weights_BxL * values_BxL, 0.0)


def masked_sum(values_BxL: jax.Array, mask_BxL: jax.Array) -> SumCount:
  """Return (sum of values where mask is set, number of such positions)."""
  mask_BxL = mask_BxL.astype(jnp.float32)
  # `where` instead of a product: an infinite value under the mask stays out.
  kept_BxL = jnp.where(mask_BxL > 0, values_BxL * mask_BxL, 0.0)
  return SumCount(jnp.sum(kept_BxL), jnp.sum(mask_BxL))


def make(apply: Callable) -> Objective:
  """Return the objective L = cross-entropy of `batch`; it reads no frozen tree."""

  def objective(params, frozen, batch, key):
    del frozen, key
    logits = apply(params, batch["inputs"]).logits
    loss = cross_entropy(logits, batch["targets"], batch["mask"])
    return loss, {"cross_entropy": loss}

  return objective


METHOD = Method(make=make, trains=("batch",), label="cross-entropy")
