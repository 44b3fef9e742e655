"""Routing as transformations of an optax chain.

  optax.chain(
    route_sources(masks),         # first: what follows sees the routed gradient
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(),
    optax.scale_by_learning_rate(1e-3),
  )
  chain.update({"forget": ..., "retain": ...}, state, params)

Under Adam the size of a constant mask does not matter, only its sign and its ratio to
the masks of other sources; and momentum and decay move a parameter whose gradient is
zero.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from undo_jax.routing.sources import check_masks


def route_sources(masks: Mapping[str, object]) -> optax.GradientTransformation:
  """Turn {source: gradients} into their masked sum, gradients like the parameters.

  g = sum_k M_k * g_k

  The gradients come from training.gradients.by_source in a training step.

  Args:
    masks: for each source a tree like the parameters, leaves broadcastable to them;
      see trees.mask_from_rules and routing.era.masks_for.

  Returns:
    A stateless transformation, dtypes those of the gradients. Its update raises
    ValueError if sources are missing or unknown, or a mask does not fit, naming the
    path.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix H.
  """
  if not masks:
    raise ValueError("routing by source needs the masks of at least one source")

  def routed(updates, params=None):
    del params
    if set(masks) != set(updates):
      raise ValueError(
        f"the gradients must have the sources of the masks {sorted(masks)}, got "
        f"{sorted(updates)}"
      )
    total: Any = None
    for source, mask in masks.items():
      grads = updates[source]
      check_masks(grads, mask, f"masks of source {source!r}")
      part = jax.tree.map(lambda g, m: g * jnp.asarray(m).astype(g.dtype), grads, mask)
      total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total

  return optax.stateless(routed)
