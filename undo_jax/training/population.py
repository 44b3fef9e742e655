"""One step over a leading replica axis: sweeps as a single program."""

from collections.abc import Callable
import functools
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

  def one(learning_rate):
    state = state_lib.create(params, optimizer)
    opt_state = optax.tree.set(state.opt_state, learning_rate=learning_rate)
    return state._replace(opt_state=opt_state)

  return jax.vmap(one)(jnp.asarray(learning_rates_R, jnp.float32))


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


def in_groups(program: Program, at_once: int) -> Program:
  """Return a population's program over groups of its members, one after the other.

  Each group goes through the whole program before the next, and its states take the
  place of those before: what the program holds beside them is there once.

  Args:
    program: `(population, ...) -> (population, results [..., R])` of any number of
      members; all other arguments are shared.
    at_once: members of a group, a divisor of R and a multiple of the devices of the
      mesh axis `replica`.

  Returns:
    The same function of the population.
  """

  def in_turn(state, *shared):
    # Strided groups, so that each is spread over all devices of the axis.
    groups = jax.tree.map(
      lambda x: x.reshape(at_once, -1, *x.shape[1:]).swapaxes(0, 1), state
    )
    number = len(jax.tree.leaves(groups)[0])
    first = jax.tree.map(lambda x: x[0], groups)
    _, shapes = jax.eval_shape(program, first, *shared)
    results = jax.tree.map(lambda s: jnp.zeros((number, *s.shape), s.dtype), shapes)

    def run(index, carry):
      groups, results = carry
      updated = program(jax.tree.map(lambda x: x[index], groups), *shared)
      put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=index, axis=0)
      return jax.tree.map(put, (groups, results), updated)

    groups, results = jax.lax.fori_loop(0, number, run, (groups, results))
    state = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), groups)
    # [G, ..., at_once] to [..., at_once, G] to [..., R].
    together = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), results)
    return state, jax.tree.map(lambda x: x.reshape(*x.shape[:-2], -1), together)

  return in_turn


def shardings(tree: object) -> Any:
  """Return the shardings of a population from those of a single state."""
  return jax.tree.map(lambda s: NamedSharding(s.mesh, P("replica", *s.spec)), tree)
