"""The state at the start of a stage."""

import jax
import numpy as np
import optax

from undo_jax.training import state


def test_a_stage_starts_at_step_0_with_the_optimizers_first_state():
  params = {"x": np.float32([1.0, 2.0])}
  made = state.create(params, optax.adam(0.1))
  assert made.step == 0 and made.step.dtype == np.int32 and made.params is params
  expected = optax.adam(0.1).init(params)
  assert jax.tree.structure(made.opt_state) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, made.opt_state, expected)
