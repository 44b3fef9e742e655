"""Loss and gradients of an objective, accumulated over microbatches."""

import jax
import jax.numpy as jnp

from undo_jax.types import Batch, Frozen, Metrics, Objective, Params


def loss_and_gradients(
  objective: Objective,
  params: Params,
  frozen: Frozen,
  batch: Batch,
  key: jax.Array,
  *,
  num_microbatches: int = 1,
) -> tuple[jax.Array, Params, Metrics]:
  """Computes the loss of the whole batch and its exact gradient.

  L = sum_k (sum_a sum_k[a]) / max(sum_a count_k[a], 1)  over microbatches a

  Each term is divided by its global count once, so that the number of
  microbatches and of devices does not change the result.

  Args:
    objective: see types.Objective.
    params: what is differentiated.
    frozen: what is only read.
    batch: arrays with leading axis B, a multiple of `num_microbatches`.
    key: PRNG key; microbatch a uses fold_in(key, a).
    num_microbatches: A; one after the other, to save memory.

  Returns:
    (loss as a float32 scalar, gradients like `params`, summed metrics).

  Raises:
    ValueError: if B is no multiple of `num_microbatches`.
  """
  microbatches = jax.tree.map(lambda x: _split(x, num_microbatches), batch)
  indices = jnp.arange(num_microbatches)

  def loss_fn(params, microbatch, index, counts):
    subkey = jax.random.fold_in(key, index)
    loss, metrics = objective(params, frozen, microbatch, subkey)
    counts = loss.count if counts is None else counts
    return jnp.sum(loss.sum / jnp.maximum(counts, 1.0)), metrics

  grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
  first = jax.tree.map(lambda x: x[0], microbatches)
  if num_microbatches == 1:
    (loss, metrics), grads = grad_fn(params, first, indices[0], None)
    return loss, grads, metrics

  def count(carry, inputs):
    # Only the counts are used: the compiler drops the forward pass.
    return carry, objective(params, frozen, inputs[0], key)[0].count

  _, counts_A = jax.lax.scan(count, None, (microbatches, indices))
  counts = jnp.sum(counts_A, axis=0)

  def accumulate(carry, inputs):
    microbatch, index = inputs
    (loss, metrics), grads = grad_fn(params, microbatch, index, counts)
    return jax.tree.map(jnp.add, carry, (loss, metrics, grads)), None

  shapes = jax.eval_shape(grad_fn, params, first, indices[0], counts)
  (loss, metrics), grads = shapes
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (loss, metrics, grads))
  (loss, metrics, grads), _ = jax.lax.scan(accumulate, zeros, (microbatches, indices))
  return loss, grads, metrics


def _split(x, num_microbatches):
  """[B, ...] -> [A, B/A, ...], taking every A-th row.

  Strided rows keep every microbatch spread over all devices; blocks of rows
  would lie on a few of them.
  """
  if x.shape[0] % num_microbatches:
    raise ValueError(
      f"num_microbatches={num_microbatches} must divide the batch of {x.shape[0]}"
    )
  return x.reshape(-1, num_microbatches, *x.shape[1:]).swapaxes(0, 1)
