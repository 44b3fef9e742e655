"""Gradient routing by activation masks: `route`, a custom-JVP identity."""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp


class TokenMask(NamedTuple):
  """A mask for every token in factors: sum_s weights[b, l, s] * table[s, ...].

  A few masks of all units serve all tokens; [S, units] and [B, L, S] numbers say
  what [B, L, units] would. The sum is computed where it multiplies the gradient
  and kept nowhere. `routing.masks` builds them.
  """

  table: jax.Array  # float32 [S, ...units]; for a model's layers [N, S, ...units].
  weights_BxLxS: jax.Array  # float32; B and L may be 1.


Mask: TypeAlias = jax.Array | TokenMask


@jax.custom_jvp
def route(x: jax.Array, mask: Mask) -> jax.Array:
  """Return `x` unchanged while its gradient is multiplied by `mask`.

  value = x,  d value / d x = mask

  The value is exact in every dtype, infinities included, since nothing is
  computed on it; second derivatives are those of mask*x + (1-mask)*stop_gradient(x).

  Args:
    x: [..., D] activations of any float dtype; [B, L, ...units] with a TokenMask.
    mask: bool, int or float, broadcastable to `x`, or the TokenMask of one layer;
      its own gradient is zero. 1 passes, 0 blocks, -1 turns descent into ascent.

  Returns:
    An array equal to `x`, of its shape and dtype.

  Raises:
    ValueError: if `mask` does not broadcast to the shape of `x`.

  Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 3.
  """
  check_broadcastable(mask, jnp.shape(x))
  return x


@route.defjvp
def _route_jvp(primals, tangents):
  x, mask = primals
  x_dot, _ = tangents
  scale = _scale
  if isinstance(mask, TokenMask):
    # Recomputed in the backward pass, so that nothing of [B, L, units] is kept.
    scale = jax.checkpoint(_scale, prevent_cse=False)
  # The primal goes through `route` again, so that higher derivatives are routed too.
  return route(x, mask), scale(mask, x_dot)


def _scale(mask, x_dot):
  mask = dense(mask) if isinstance(mask, TokenMask) else jnp.asarray(mask)
  return mask.astype(x_dot.dtype) * x_dot


def dense(mask: TokenMask) -> jax.Array:
  """Return the mask of every token of one layer, [B, L, ...units] float32."""
  table, weights_BxLxS = mask
  units = (1,) * (table.ndim - 1)
  # A sum of products instead of a matrix product: for so few terms it is faster,
  # since it fuses with what it multiplies, and exact for weights of 0 and 1.
  terms = [
    weights_BxLxS[..., s].reshape(*weights_BxLxS.shape[:2], *units) * table[s]
    for s in range(table.shape[0])
  ]
  return sum(terms[1:], terms[0])


def mask_shape(mask: Mask) -> tuple[int, ...]:
  """Return the shape of the mask; of a TokenMask, that of all its tokens.

  Raises:
    ValueError: if the factors of a TokenMask do not belong together.
  """
  if not isinstance(mask, TokenMask):
    return jnp.shape(mask)
  table, weights = jnp.shape(mask.table), jnp.shape(mask.weights_BxLxS)
  if len(table) < 2 or len(weights) != 3 or table[0] != weights[2]:
    raise ValueError(
      "a TokenMask needs a table [S, ...units] and weights [B, L, S] with one S, "
      f"got {table} and {weights}"
    )
  return weights[:2] + table[1:]


def check_broadcastable(mask: Mask, shape: tuple[int, ...]) -> None:
  """Raise ValueError if `mask` does not broadcast to exactly `shape`."""
  shape_of_mask = mask_shape(mask)
  try:
    fits = jnp.broadcast_shapes(shape_of_mask, shape) == shape
  except ValueError:
    fits = False
  if not fits:
    raise ValueError(
      f"a routing mask must broadcast to its activation {shape}, got {shape_of_mask}"
    )
