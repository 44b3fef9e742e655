"""Gradients by data source, and routing by masks on parameters.

g = sum_k w_k * M_k * grad L_k,  with masks M_k like the parameters

Where each source is a loss of its own, `route_parameters` gives this g in one
ordinary backward pass. Where the g_k are needed one by one, or the losses share
their forward pass, `per_source_value_and_grad` computes them; the transformations of
`routing.transforms` then put them together.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from undo_jax.routing.activations import route
from undo_jax.utils import trees
from undo_jax.utils.types import Params


def route_parameters(params: Params, masks: object) -> Params:
  """Returns the parameters unchanged, each gradient multiplied by its mask.

  The gradient of sum_k w_k * L_k(route_parameters(params, M_k)) is the routed g.

  Args:
    params: a tree of arrays.
    masks: a tree like it, each leaf broadcastable to its parameter; for example of
      trees.mask_from_rules.

  Raises:
    ValueError: if the trees differ or a mask does not broadcast, naming the path.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix H.
  """
  check_masks(params, masks)
  return jax.tree.map(route, params, masks)


def check_masks(params: Params, masks: object, what: str = "masks") -> None:
  """Raises ValueError unless `masks` is like `params`, leaf by leaf broadcastable."""
  expected, got = trees.paths(params), trees.paths(masks)
  if expected != got:
    missing = sorted(set(expected) - set(got))
    unknown = sorted(set(got) - set(expected))
    raise ValueError(
      f"{what} must be a tree like the parameters; missing: "
      f"{', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
    )

  def check(path, param, mask):
    shape = jnp.shape(param)
    try:
      fits = jnp.broadcast_shapes(jnp.shape(mask), shape) == shape
    except ValueError:
      fits = False
    if not fits:
      raise ValueError(
        f"{what}: the mask of {path} must broadcast to {shape}, got {jnp.shape(mask)}"
      )

  trees.map_with_path(check, params, masks)


def per_source_value_and_grad(
  losses_fn: Callable[..., Any],
  names: Sequence[str],
  *,
  together: bool = False,
  has_aux: bool = False,
) -> Callable[..., Any]:
  """Returns a function that computes the gradient of every source's loss.

  One forward pass, and one backward pass for each of the K sources: the same
  pullback is applied to the K unit vectors. Sources that have rows of their own are
  cheaper by `route_parameters`.

  Args:
    losses_fn: (params, *arguments) -> float [K], the losses in the order of
      `names`; with `has_aux`, a pair of them and anything.
    names: K distinct names.
    together: the backward passes at once, as one vmapped one, which needs the memory
      of K and on a CPU two to three times as long; otherwise in turn.
    has_aux: see `losses_fn`.

  Returns:
    (params, *arguments) -> (losses [K], {name: gradients like params}), and with
    `has_aux` the auxiliary value last.

  Raises:
    ValueError: if names repeat; when called, if the losses are not [K].
  """
  if not names or len(set(names)) != len(names):
    raise ValueError(f"sources need distinct names, got {list(names)}")

  def value_and_grads(params, *arguments):
    def fn(params):
      return losses_fn(params, *arguments)

    aux = None
    if has_aux:
      losses_K, pullback, aux = jax.vjp(fn, params, has_aux=True)
    else:
      losses_K, pullback = jax.vjp(fn, params)
    if jnp.shape(losses_K) != (len(names),):
      raise ValueError(
        f"the losses must have the shape ({len(names)},) of the sources "
        f"{list(names)}, got {jnp.shape(losses_K)}"
      )
    units_KxK = jnp.eye(len(names), dtype=losses_K.dtype)

    def backward(unit_K):
      return pullback(unit_K)[0]

    if together:
      stacked = jax.vmap(backward)(units_KxK)
    else:
      stacked = jax.lax.map(backward, units_KxK)
    grads = {
      name: jax.tree.map(lambda x, k=k: x[k], stacked) for k, name in enumerate(names)
    }
    return (losses_K, grads, aux) if has_aux else (losses_K, grads)

  return value_and_grads
