"""Training of autoencoder and certificates for one seed, or vmapped, for several."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from experiments.gradient_routing.splitting import autoencoder
from undo_jax.utils.types import Params


class State(NamedTuple):
  """The state of one seed's training."""

  params: Params
  opt_state: optax.OptState
  key: jax.Array  # For the order of images.


# (state, images as of `groups`, weights, number of epochs) -> state; the number may be
# traced.
Epochs: TypeAlias = Callable[
  [State, autoencoder.Batch, autoencoder.Weights, int | jax.Array], State
]


def make_optimizer(
  learning_rate: float, weight_decay: float
) -> optax.GradientTransformation:
  """Return Adam with coupled decay: decay * params is added to the gradient.

  This is L2 regularization as in torch.optim.Adam: unlike in AdamW, Adam then divides
  the decay by the size of the gradient.
  """
  chain = optax.chain(
    optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
  )
  return optax.flatten(chain)  # One vector compiles faster.


def make_epochs(optimizer: optax.GradientTransformation, batch_size: int) -> Epochs:
  """Return the function that trains one seed for some epochs.

  Args:
    optimizer: see `make_optimizer`.
    batch_size: B; the last batch of an epoch has the remaining images.
  """

  def step(carry, batch, weights):
    params, opt_state = carry
    grads, _ = jax.grad(autoencoder.loss, has_aux=True)(params, batch, weights)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  def epoch(state, images, weights):
    key, order_key = jax.random.split(state.key)
    batches = shuffled(order_key, images["group"].shape[0], batch_size)

    def body(carry, rows):
      index_B, present_B = rows
      batch = {name: images[name][index_B] for name in ("images", "group")}
      return step(carry, {**batch, "present": present_B}, weights), None

    carry, _ = jax.lax.scan(body, (state.params, state.opt_state), batches)
    return State(*carry, key)

  def epochs(state, images, weights, count):
    def body(_, state):
      return epoch(state, images, weights)

    return jax.lax.fori_loop(0, count, body, state)

  return epochs


def shuffled(key: jax.Array, rows: int, batch_size: int) -> tuple[jax.Array, jax.Array]:
  """Return the order of an epoch: every row once, with the last batch filled up.

  Returns:
    (int indices [batches, B]; 1.0 for rows of the epoch, 0.0 for filling).
  """
  batches = -(-rows // batch_size)
  fill = batches * batch_size - rows
  order = jnp.pad(jax.random.permutation(key, rows), (0, fill))
  present = jnp.arange(rows + fill) < rows
  shape = (batches, batch_size)
  return order.reshape(shape), present.astype(jnp.float32).reshape(shape)
