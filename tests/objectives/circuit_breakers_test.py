"""Circuit breakers: where they begin, and how the weights of the terms move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests.objectives.toy import FROZEN, MASK, B, D, L, batch_of, draw_params, run
from undo_jax import objectives, testing
from undo_jax.models.decoder import Decoder
from undo_jax.objectives.circuit_breakers import rerouting_error
from undo_jax.training import state as state_lib
from undo_jax.training.optimizers import OptimizerConfig, make_optimizer
from undo_jax.training.step import make_step


def test_the_loss_begins_at_the_strength_and_has_a_finite_gradient():
  params, batch = draw_params(1), batch_of("circuit_breakers")
  frozen = FROZEN | {"reference": params, "progress": jnp.float32(0)}
  loss, grads, metrics = run("circuit_breakers", params, batch, frozen=frozen)
  np.testing.assert_allclose(loss, 4.0, rtol=1e-6)
  assert metrics["retain_distance"].mean() < 1e-6
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9])
def test_the_weights_of_the_terms_add_up_to_the_strength(share):
  params, batch = draw_params(1), batch_of("circuit_breakers")
  frozen = FROZEN | {"progress": jnp.float32(share)}
  loss, _, metrics = run("circuit_breakers", params, batch, frozen=frozen)
  rerouted = metrics["forget_rerouting_error"].mean()
  drift = metrics["retain_distance"].mean()
  expected = 4.0 * ((1 - share / 2) * rerouted + share / 2 * drift)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_rotation_of_all_states_changes_nothing():
  rng = np.random.default_rng(0)
  hidden, before = np.float32(rng.standard_normal((2, 2, B, L, D)))
  rotation = np.float32(scipy.stats.ortho_group.rvs(D, random_state=1))
  mine = rerouting_error(hidden, before, MASK).mean()
  turned = rerouting_error(hidden @ rotation, before @ rotation, MASK).mean()
  np.testing.assert_allclose(mine, turned, rtol=1e-5)
  assert rerouting_error(hidden, -hidden, MASK).mean() == 0


def test_a_step_knows_how_far_training_is():
  decoder = Decoder(testing.config())
  params = testing.weights(decoder.config)
  fn = objectives.make("circuit_breakers", decoder.apply, layers=(0,), strength=3.0)
  optimizer = make_optimizer(OptimizerConfig(learning_rate=0.0, num_steps=4))
  step = jax.jit(make_step(fn, optimizer, num_steps=4))
  batch = {"forget": testing.batch(jax.random.key(0))}
  batch["retain"] = testing.batch(jax.random.key(1))
  state, losses = state_lib.create(params, optimizer), []
  for _ in range(4):
    state, metrics = step(state, {"reference": params}, batch, jax.random.key(2))
    losses.append(metrics["loss"])
  # Nothing moves: the cosine stays 1 and the distance 0.
  expected = [3.0 * (1 - done / 8) for done in range(4)]
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
