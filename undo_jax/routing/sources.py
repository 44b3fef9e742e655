"""Gradients by data source, and routing by masks on parameters.

g = sum_k w_k * M_k * grad L_k,  with masks M_k like the parameters

`route_parameters` gives this g in one ordinary backward pass. Where the g_k are needed
one by one, `training.gradients.by_source` keeps them apart and
`routing.transforms.route_sources` puts them together.
"""

import jax
import jax.numpy as jnp

from undo_jax.routing.activations import route
from undo_jax.utils import trees
from undo_jax.utils.types import Params


def route_parameters(params: Params, masks: object) -> Params:
  """Return the parameters unchanged, each gradient multiplied by its mask.

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
  """Raise ValueError unless `masks` is like `params`, leaf by leaf broadcastable."""
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
