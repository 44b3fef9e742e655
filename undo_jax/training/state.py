"""The state a stage carries: step, parameters, optimizer state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from undo_jax.utils.types import Params


class TrainState(NamedTuple):
  """Everything a step changes; random keys are folds of the step, not kept."""

  step: jax.Array  # int32 scalar, updates done so far.
  params: Params  # float32 master weights.
  opt_state: Any  # The optax state of `params`.


def create(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
  """Return the state at step 0 for the given parameters."""
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
