"""Routing as transformations of an optax chain.

  optax.chain(
    route_sources(masks),         # first: what follows sees the routed gradient
    optax.clip_by_global_norm(1.0),
    optax.scale_by_adam(),
    routed_weight_decay(0.1, decay_masks),
    optax.scale_by_learning_rate(1e-3),
    freeze_by_source(masks),      # last: what is closed does not move at all
  )
  chain.update({"forget": ..., "retain": ...}, state, params, source="forget")

Under Adam the size of a constant mask does not matter, only its sign and its ratio to
the masks of other sources; and momentum and decay move a parameter whose gradient is
zero, which only `freeze_by_source` stops.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.core import Tracer
import jax.numpy as jnp
import optax

from undo_jax.routing.sources import check_masks


def route_sources(masks: Mapping[str, object]) -> optax.GradientTransformationExtraArgs:
  """Turns {source: gradients} into their masked sum, gradients like the parameters.

  g = sum_k w_k * M_k * g_k

  Its update takes the weights by keyword, `source_weights={source: w_k}`; None: all 1.
  The gradients come from training.gradients.by_source in a training step, or from
  routing.sources.per_source_value_and_grad.

  Args:
    masks: for each source a tree like the parameters, leaves broadcastable to them;
      see trees.mask_from_rules and routing.era.masks_for.

  Returns:
    A stateless transformation, dtypes those of the gradients. Its update raises
    ValueError if sources are missing or unknown, or a mask does not fit, naming the
    path.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix H.
  """
  _check_any(masks)

  def update(updates, state, params=None, *, source_weights=None, **extra):
    del params, extra
    weights = dict.fromkeys(masks, 1.0) if source_weights is None else source_weights
    _check_sources(masks, updates, "the gradients")
    _check_sources(masks, weights, "source_weights")
    total: Any = None
    for source, mask in masks.items():
      grads = updates[source]
      check_masks(grads, mask, f"masks of source {source!r}")
      weight = weights[source]
      part = jax.tree.map(
        lambda g, m, w=weight: g * (w * jnp.asarray(m)).astype(g.dtype), grads, mask
      )
      total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total, state

  return _extra_args(update)


def freeze_by_source(
  masks: Mapping[str, object],
) -> optax.GradientTransformationExtraArgs:
  """Sets updates to exactly zero wherever the mask of the current source is zero.

  Placed last, it also stops what momentum and weight decay would move.

  Args:
    masks: for each source a tree like the parameters, leaves broadcastable to them.

  Returns:
    A stateless transformation whose update takes `source` by keyword: a name, or an
    int index (may be traced) into the sorted names. It raises ValueError on an
    unknown source or a mask that does not fit, naming the path.

  Reference: ours.
  """
  _check_any(masks)

  def update(updates, state, params=None, *, source, **extra):
    del params, extra
    for name, mask in masks.items():
      check_masks(updates, mask, f"masks of source {name!r}")
    if isinstance(source, str):
      if source not in masks:
        raise ValueError(f"unknown source {source!r}; the masks have {sorted(masks)}")
      is_open = jax.tree.map(lambda m: jnp.asarray(m) != 0, masks[source])
    else:
      is_open = _open_at(masks, source)
    # `where` and not a product: an infinite update does not turn into NaN.
    frozen = jax.tree.map(lambda u, m: jnp.where(m, u, 0), updates, is_open)
    return frozen, state

  return _extra_args(update)


def _open_at(masks, index):
  names = sorted(masks)  # Dicts that went through a transformation are sorted too.
  if not isinstance(index, Tracer) and not 0 <= int(index) < len(names):
    raise ValueError(
      f"a source index must lie in [0, {len(names)}) for {names}, got {index}"
    )

  def choose(*leaves):
    is_open = [jnp.asarray(leaf) != 0 for leaf in leaves]
    return jnp.stack(jnp.broadcast_arrays(*is_open))[index]

  return jax.tree.map(choose, *(masks[name] for name in names))


def routed_weight_decay(
  weight_decay: float, masks: object = None
) -> optax.GradientTransformation:
  """Adds weight_decay * M * params to the updates, element by element.

  Unlike optax.add_decayed_weights, whose mask takes or leaves whole arrays.

  Args:
    weight_decay: >= 0; decoupled if placed after scale_by_adam.
    masks: a tree like the parameters, leaves broadcastable to them; None: all 1.

  Raises:
    ValueError: if `weight_decay` is negative; from its update, if there are no
      params or a mask does not fit, naming the path.
  """
  if weight_decay < 0:
    raise ValueError(f"weight_decay must be >= 0, got {weight_decay}")

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("routed_weight_decay needs params in its update")
    if masks is None:
      return jax.tree.map(lambda u, p: u + weight_decay * p, updates, params), state
    check_masks(params, masks, "masks of the weight decay")

    def decay(u, p, m):
      return u + (weight_decay * jnp.asarray(m)).astype(u.dtype) * p

    return jax.tree.map(decay, updates, params, masks), state

  return optax.GradientTransformation(_no_state, update)


def _extra_args(update: Any) -> optax.GradientTransformationExtraArgs:
  # Any: the annotation in optax knows no required keyword.
  return optax.GradientTransformationExtraArgs(_no_state, update)


def _no_state(params: object) -> optax.EmptyState:
  del params
  return optax.EmptyState()


def _check_sources(masks, found, what):
  if set(masks) != set(found):
    raise ValueError(
      f"{what} must have the sources of the masks {sorted(masks)}, got {sorted(found)}"
    )


def _check_any(masks):
  if not masks:
    raise ValueError("routing by source needs the masks of at least one source")
