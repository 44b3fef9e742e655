"""Gradient routing by activation masks: `route`, a custom-JVP identity."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def route(x: jax.Array, mask: jax.Array) -> jax.Array:
  """Returns `x` unchanged while its gradient is multiplied by `mask`.

  value = x,  d value / d x = mask

  The value is exact in every dtype, infinities included, since nothing is
  computed on it; second derivatives are those of mask*x + (1-mask)*stop_gradient(x).

  Args:
    x: [..., D] activations of any float dtype.
    mask: bool, int or float, broadcastable to `x`; its own gradient is zero.

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
  # The primal goes through `route` again, so that higher derivatives are routed too.
  return route(x, mask), jnp.asarray(mask).astype(x.dtype) * x_dot


def check_broadcastable(mask: jax.Array, shape: tuple[int, ...]) -> None:
  """Raises ValueError if `mask` does not broadcast to exactly `shape`."""
  mask_shape = jnp.shape(mask)
  try:
    fits = jnp.broadcast_shapes(mask_shape, shape) == shape
  except ValueError:
    fits = False
  if not fits:
    raise ValueError(
      f"a routing mask must broadcast to its activation {shape}, got {mask_shape}"
    )
