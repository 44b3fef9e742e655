"""One step over a leading replica axis: sweeps as a single program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import optax

from undo_jax.training import state as state_lib
from undo_jax.utils.types import Params


def create(
  params: Params,
  optimizer: optax.GradientTransformation,
  learning_rates_R: jax.Array,
) -> state_lib.TrainState:
  """Return R copies of a fresh state, each with its own learning rate.

  Args:
    params: the parameters every replica starts from.
    optimizer: one made by `optimizers.make_population_optimizer`.
    learning_rates_R: [R] float32.

  Returns:
    A TrainState whose leaves have a leading axis R.
  """

  def one(learning_rate):
    state = state_lib.create(params, optimizer)
    opt_state = optax.tree.set(state.opt_state, learning_rate=learning_rate)
    return state._replace(opt_state=opt_state)

  return jax.vmap(one)(jnp.asarray(learning_rates_R, jnp.float32))


def over_replicas(fn: Callable[..., Any], at_once: int | None = None) -> Any:
  """Return `fn` over a leading axis R of its first argument (a step: its state).

  The other arguments are shared by all replicas; the axis is spread over the mesh
  axis `replica`.

  Args:
    fn: a step, or any pure function.
    at_once: how many replicas are computed together, a divisor of R and a multiple
      of the devices of the mesh axis `replica`; the activations of so many are held
      at a time. None: all.

  Returns:
    A function whose results have a leading axis R.
  """

  def together(first, *shared):
    axes = (0, *(None for _ in shared))
    return jax.vmap(fn, in_axes=axes, spmd_axis_name="replica")(first, *shared)

  if at_once is None:
    return together

  def in_turn(first, *shared):
    # Strided groups, so that each is spread over all devices of the axis.
    groups = jax.tree.map(
      lambda x: x.reshape(at_once, -1, *x.shape[1:]).swapaxes(0, 1), first
    )
    results = jax.lax.map(lambda group: together(group, *shared), groups)
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), results)

  return in_turn


def shardings(tree: object) -> Any:
  """Return the shardings of a population from those of a single state."""
  return jax.tree.map(lambda s: NamedSharding(s.mesh, P("replica", *s.spec)), tree)
