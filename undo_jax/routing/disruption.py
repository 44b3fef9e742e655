"""Forget gradients, restricted to where they do not disturb retain data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from undo_jax.utils import trees
from undo_jax.utils.types import Params

SOURCES = ("forget", "retain", "adversary")


class Disruption(NamedTuple):
  """What is carried from update to update."""

  updates: jax.Array  # Done so far.
  kept: Params  # Running mean of the gradients of what is kept.
  adversary: Params  # Weights that relearn, before the update.


def adversary(state: Any, params: Params, every: int) -> Params:
  """Return the adversary's weights, which are reset to the model's now and then.

  Args:
    state: of an optimizer that `mask_disruption` is a part of.
    params: the model, before the update.
    every: updates between two resets.
  """
  return _begun(optax.tree.get(state, Disruption.__name__), params, every)


def _begun(state: Disruption, params: Params, every: int) -> Params:
  is_new = state.updates % every == 0
  return jax.tree.map(lambda p, a: jnp.where(is_new, p, a), params, state.adversary)


def mask_disruption(
  *,
  momentum: float,
  retain_weight: float,
  forget_weight: float,
  adversary_rate: float,
  every: int,
  trainable: tuple = (),
) -> optax.GradientTransformation:
  """Turn gradients by source into one that forgets where it does not disturb.

  m  <- momentum * m + (1 - momentum) * g_retain
  g   = retain_weight * m + forget_weight * A g_forget / |g_forget|
  theta_adversary <- theta_adversary - adversary_rate * g_adversary

  A is 1 where m and g_forget have the same sign, else 0; |.| is the norm over what is
  trained, before the mask: what forgets is no longer than forget_weight.

  Args:
    momentum: in [0, 1).
    retain_weight: of the running mean.
    forget_weight: the length of what forgets, where nothing is masked.
    adversary_rate: of the adversary's gradient descent.
    every: updates after which the adversary begins anew, at the model.
    trainable: rules of trees.mask_from_rules; empty: everything.

  Returns:
    A transformation of {source: gradients} of SOURCES; its state is a Disruption.

  Reference: Sondej et al., Robust LLM Unlearning with MUDMAN, arXiv 2506.12484.
  """

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return Disruption(jnp.zeros([], jnp.int32), zeros, params)

  def update(updates, state, params=None):
    forget, retain, relearning = (
      trees.masked(updates[source], trainable) for source in SOURCES
    )
    kept = jax.tree.map(
      lambda m, g: momentum * m + (1.0 - momentum) * g, state.kept, retain
    )
    scale = forget_weight / (optax.tree.norm(forget) + 1e-30)

    def joined(m, g):
      agrees = jnp.sign(m) == jnp.sign(g)
      return retain_weight * m + jnp.where(agrees, scale * g, 0.0).astype(m.dtype)

    relearned = jax.tree.map(
      lambda a, g: a - adversary_rate * g, _begun(state, params, every), relearning
    )
    after = Disruption(state.updates + 1, kept, relearned)
    return jax.tree.map(joined, kept, forget), after

  return optax.GradientTransformation(init, update)
