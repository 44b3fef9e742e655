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

# `(population, ...) -> (population, results)`; see relearning.make_program.
Program = Callable[..., tuple[state_lib.TrainState, Any]]


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
  return begin(copies(params, len(learning_rates_R)), optimizer, learning_rates_R)


def copies(params: Params, size: int) -> Params:
  """Return parameters that many times, along a leading axis."""
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), params)


def begin(
  params_R: Params,
  optimizer: optax.GradientTransformation,
  learning_rates_R: jax.Array,
) -> state_lib.TrainState:
  """Return fresh states of replicas, each with its own learning rate.

  Args:
    params_R: [R, ...], the parameters that each starts from.
    optimizer: one made by `optimizers.make_population_optimizer`.
    learning_rates_R: [R] float32.

  Returns:
    A TrainState whose leaves have a leading axis R.
  """

  def one(params, learning_rate):
    state = state_lib.create(params, optimizer)
    opt_state = optax.tree.set(state.opt_state, learning_rate=learning_rate)
    return state._replace(opt_state=opt_state)

  return jax.vmap(one)(params_R, jnp.asarray(learning_rates_R, jnp.float32))


def over_replicas(fn: Callable[..., Any]) -> Any:
  """Return `fn` over a leading axis R of its first argument (a step: its state).

  The other arguments are shared by all replicas; the axis is spread over the mesh
  axis `replica`.

  Args:
    fn: a step, or any pure function.

  Returns:
    A function whose results have a leading axis R.
  """

  def together(first, *shared):
    axes = (0, *(None for _ in shared))
    return jax.vmap(fn, in_axes=axes, spmd_axis_name="replica")(first, *shared)

  return together


def group_of(tree: Any, group: jax.typing.ArrayLike, size: int) -> Any:
  """Return the part [n, ...] of a population's arrays [R, ...] that a group has.

  Group g of G has the members g, g + G, g + 2 G ..., so that each group is spread over
  all devices of the mesh axis `replica`.

  Args:
    tree: arrays with a leading axis R.
    group: which one, from 0 to G - 1; int32.
    size: n, its members: a divisor of R, and a multiple of those devices.
  """

  def take(x):
    split = x.reshape(size, -1, *x.shape[1:])
    return jax.lax.dynamic_index_in_dim(split, group, axis=1, keepdims=False)

  return jax.tree.map(take, tree)


def of_group(program: Program, size: int) -> Program:
  """Return the program of one group of a population, see `group_of`.

  A group has been trained to its end before the next one begins, so that the states of
  its optimizer are the only ones there are.

  Args:
    program: `(population, ...) -> (population, results)` of any number of members.
    size: n, members of a group.

  Returns:
    `(state, ..., group) -> (state, results)`: the state has the parameters [R, ...] of
    all members, and the steps and optimizer states [n, ...] of the group.
  """

  def one(state, *rest):
    *shared, group = rest
    params_n = group_of(state.params, group, size)
    updated, results = program(state._replace(params=params_n), *shared)

    def put(x, y):
      split = x.reshape(size, -1, *x.shape[1:])
      split = jax.lax.dynamic_update_index_in_dim(split, y, group, axis=1)
      return split.reshape(x.shape)

    params = jax.tree.map(put, state.params, updated.params)
    return updated._replace(params=params), results

  return one


def shardings(tree: object) -> Any:
  """Return the shardings of a population from those of a single state."""
  return jax.tree.map(lambda s: NamedSharding(s.mesh, P("replica", *s.spec)), tree)
