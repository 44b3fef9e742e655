"""One step over a leading replica axis: sweeps as a single program."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import optax

from undo_jax.training import state as state_lib
from undo_jax.training.step import Step
from undo_jax.types import Params


def create(
  params: Params,
  optimizer: optax.GradientTransformation,
  learning_rates_R: jax.Array,
) -> state_lib.TrainState:
  """Returns R copies of a fresh state, each with its own learning rate.

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


def over_replicas(step: Step) -> Step:
  """Returns the step over states with a leading axis R.

  Frozen tree, batch and key are shared by all replicas; the axis is spread over
  the mesh axis `replica`.
  """
  return jax.vmap(step, in_axes=(0, None, None, None), spmd_axis_name="replica")


def shardings(tree: Any) -> Any:
  """Returns the shardings of a population from those of a single state."""
  return jax.tree.map(lambda s: NamedSharding(s.mesh, P("replica", *s.spec)), tree)
