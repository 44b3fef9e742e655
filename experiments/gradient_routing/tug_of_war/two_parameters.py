"""Two parameters, an old and a new one, by gradient descent."""

import jax
import jax.numpy as jnp

from undo_jax.routing import era
from undo_jax.routing.sources import route_parameters


def train(coherence: float, num_steps: int, learning_rate: float) -> jax.Array:
  """Return (old, new) after each step of gradient descent from (0, 0), [S, 2]."""
  expansion = era.Expansion({"theta": era.Growth(0, 1, 1)})

  def loss(params):
    total = jnp.sum(params["theta"])
    masks = era.masks_for(expansion, params).params
    routed = jnp.sum(route_parameters(params, masks["forget"])["theta"])
    old = jnp.sum(era.ablated_view(params, expansion)["theta"])
    return (total - 2) ** 2 + (routed - 1) ** 2 + coherence * (old - 2) ** 2

  def step(params, _):
    grads = jax.grad(loss)(params)
    params = jax.tree.map(lambda p, g: p - learning_rate * g, params, grads)
    return params, params["theta"]

  start = {"theta": jnp.zeros(2)}
  return jax.lax.scan(step, start, None, length=num_steps)[1]
