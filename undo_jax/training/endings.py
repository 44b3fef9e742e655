"""Optax transformations that change where the last update ends."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from undo_jax.utils.types import Params


class _Average(NamedTuple):
  """A running mean of weights."""

  updates: jax.Array  # Done so far.
  taken: jax.Array  # Weights in the mean.
  average: Params


def at_average(begin: int, every: int, num_steps: int) -> optax.GradientTransformation:
  """Let the last update end at the mean of the weights; leave the others as they are.

  Args:
    begin: updates after which the first weights are taken.
    every: updates between two that are taken.
    num_steps: number of updates.

  Reference: Izmailov et al., Averaging Weights Leads to Wider Optima and Better
  Generalization, arXiv 1803.05407.
  """

  def init(params):
    zero = jnp.zeros([], jnp.int32)
    return _Average(zero, zero, jax.tree.map(jnp.zeros_like, params))

  def update(updates, state, params=None):
    count = state.updates + 1
    since = count - begin
    is_taken = (since >= 0) & (since % every == 0)
    taken = state.taken + is_taken
    share = jnp.where(is_taken, 1.0 / jnp.maximum(taken, 1), 0.0)
    average = jax.tree.map(
      lambda a, p, u: a + (share * (p + u - a)).astype(a.dtype),
      state.average,
      params,
      updates,
    )
    is_last = count == num_steps
    updates = jax.tree.map(
      lambda u, a, p: jnp.where(is_last, a - p, u), updates, average, params
    )
    return updates, _Average(count, taken, average)

  return optax.GradientTransformation(init, update)


class _Start(NamedTuple):
  """Where training began."""

  updates: jax.Array  # Done so far.
  start: Params


def displaced(displacement: float, num_steps: int) -> optax.GradientTransformation:
  """Let the last update end on the line from the start; leave the others as they are.

  theta' = theta_0 + displacement * (theta - theta_0)

  Args:
    displacement: 1: as training ends; below 0: on the other side of the start.
    num_steps: number of updates.

  Reference: Ilharco et al., Editing Models with Task Arithmetic, arXiv 2212.04089,
  where a negative displacement forgets what training taught.
  """

  def init(params):
    return _Start(jnp.zeros([], jnp.int32), params)

  def update(updates, state, params=None):
    count = state.updates + 1
    is_last = count == num_steps

    def ended(u, start, p):
      end = start + (displacement * (p + u - start)).astype(p.dtype)
      return jnp.where(is_last, end - p, u)

    updates = jax.tree.map(ended, updates, state.start, params)
    return updates, _Start(count, state.start)

  return optax.GradientTransformation(init, update)
