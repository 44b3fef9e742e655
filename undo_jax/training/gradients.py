"""Loss and gradients of an objective, accumulated over microbatches."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from undo_jax.utils import trees
from undo_jax.utils.types import Batch, Frozen, Metrics, Objective, Params

# `loss_and_gradients`, or what stands in its place.
GradientFunction: TypeAlias = Callable[..., tuple[jax.Array, Params, Metrics]]


def loss_and_gradients(
  objective: Objective,
  params: Params,
  frozen: Frozen,
  batch: Batch,
  key: jax.Array,
  *,
  num_microbatches: int = 1,
) -> tuple[jax.Array, Params, Metrics]:
  """Compute the loss of the whole batch and its exact gradient.

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


def by_source(sources: Iterable[str]) -> GradientFunction:
  """Return `loss_and_gradients` whose gradients are kept apart by source.

  g_k = dL / d theta_k  at  theta_1 = ... = theta_K = theta

  The objective takes {source: parameters} in place of parameters, all of the same
  values. The sum of the g_k is its ordinary gradient;
  routing.transforms.route_sources puts them together with masks.

  Args:
    sources: K names.

  Returns:
    A function whose gradients are {source: tree like the parameters}.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix H.
  """
  names = tuple(sources)

  def gradients(objective, params, frozen, batch, key, *, num_microbatches=1):
    copies = dict.fromkeys(names, params)
    return loss_and_gradients(
      objective, copies, frozen, batch, key, num_microbatches=num_microbatches
    )

  return gradients


def sharpness_aware(rho: float, *, trainable: tuple = ()) -> GradientFunction:
  """Return `loss_and_gradients` whose gradients are those of the worst point nearby.

  g(theta + eps),  eps = rho * g(theta) / (|g(theta)| + 1e-12)

  with the global norm over what is trained. Both gradients are those of the whole
  batch, whatever the microbatches, under one key; loss and metrics are those at
  theta. rho = 0 is `loss_and_gradients` itself.

  The code that was published with UNDO takes both gradients on the last microbatch
  alone and divides them by the number A of microbatches. Here that is a batch of one
  microbatch's size, num_microbatches=1 and A times the clip_norm.

  Args:
    rho: length of the perturbation, >= 0.
    trainable: rules of trees.mask_from_rules as in OptimizerConfig; nothing else
      is perturbed. Empty: everything is.

  Raises:
    ValueError: if rho is negative.

  Reference: Foret et al., Sharpness-Aware Minimization, arXiv 2010.01412, equation
  (2); as a baseline of robust unlearning in UNDO, arXiv 2506.06278.
  """
  # optax.contrib.sam takes its two gradients from two updates of the loop, that is
  # from two batches, unless it is given a function; and a zero gradient makes it NaN.
  if rho < 0:
    raise ValueError(f"rho must be at least 0, got {rho}")
  if rho == 0:
    return loss_and_gradients

  def gradients(objective, params, frozen, batch, key, *, num_microbatches=1):
    def at(params):
      return loss_and_gradients(
        objective, params, frozen, batch, key, num_microbatches=num_microbatches
      )

    loss, direction, metrics = at(params)
    direction = trees.masked(direction, trainable)
    scale = rho / (optax.tree.norm(direction) + 1e-12)
    worst = jax.tree.map(
      lambda p, g: p + (scale * g).astype(p.dtype), params, direction
    )
    return loss, at(worst)[1], metrics

  return gradients


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
