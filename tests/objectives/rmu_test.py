"""RMU: what it steers, where to, and what it trains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.objectives.toy import (
  FROZEN,
  KEY,
  MASK,
  D,
  N,
  V,
  batch_of,
  draw_logits,
  draw_params,
  np_mean_square,
  np_objective,
  run,
)
from undo_jax import objectives, testing
from undo_jax.models.gemma2 import Output
from undo_jax.objectives import rmu
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import loss_and_gradients
from undo_jax.training.optimizers import OptimizerConfig, make_optimizer
from undo_jax.utils import trees


def test_steering_error_is_its_formula():
  hidden, direction = np.float32(draw_logits(0)), np.float32(draw_logits(1)[0, 0])
  got = rmu.steering_error(hidden, jnp.asarray(direction), 6.5, jnp.asarray(MASK))
  expected = np_mean_square(hidden, 6.5 * np.float64(direction), MASK)
  np.testing.assert_allclose(got.mean(), expected, rtol=1e-6)


def test_rmu_does_not_drift_at_the_start():
  params = draw_params(1)
  frozen = FROZEN | {"reference": params}
  _, _, metrics = run("rmu", params, batch_of("rmu"), frozen=frozen)
  # Both passes are compiled, so each state may differ by a few roundings of 1e-7.
  assert 0 <= metrics["retain_drift"].mean() < 1e-12


def test_rmu_is_zero_where_hidden_states_are_the_target():
  direction = FROZEN["direction"]
  params = draw_params(1)
  # One row for all tokens: their running mean is that row, up to rounding.
  params["embedding"] = np.tile(3 * np.asarray(direction), (V, 1))
  params["layers"] = np.ones((N, D), np.float32)
  frozen = FROZEN | {"reference": params}
  loss, grads, _ = run("rmu", params, batch_of("rmu"), frozen=frozen)
  assert loss < 1e-12
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads)) < 1e-6


def test_random_directions_are_unit_vectors_without_a_preferred_one():
  draw = jax.jit(jax.vmap(lambda key: rmu.random_direction(key, D)))
  draws = np.asarray(draw(jax.random.split(KEY, 2000)), np.float64)
  np.testing.assert_allclose(np.linalg.norm(draws, axis=1), 1.0, rtol=3e-7)
  # Each coordinate has variance 1/D; the covariance is that of a sphere.
  assert np.abs(draws.mean(0)).max() < 5 / np.sqrt(D * 2000)
  np.testing.assert_allclose(draws.T @ draws / 2000, np.eye(D) / D, atol=0.025)


def test_rmu_trains_the_listed_down_projections_and_nothing_else():
  """In MLPs with the decoder's paths; in a decoder: tests/invariance_test.py."""

  def apply(params, tokens, *, capture=()):
    mlp = params["layers"]["mlp"]
    states = [jnp.take(params["embedding"], tokens, axis=0)]
    for n in range(3):
      hidden = jax.nn.silu(states[-1] @ mlp["up"]["kernel"][n])
      states.append(states[-1] + hidden @ mlp["down"]["kernel"][n])
    return Output(states[-1], {k: states[k] for k in capture})

  whole, layers = testing.weights(testing.config(num_layers=3)), (0, 1)
  mlp = {name: whole["layers"]["mlp"][name] for name in ("up", "down")}
  params = {"embedding": whole["embedding"], "layers": {"mlp": mlp}}
  objective = objectives.make(
    "rmu", apply, layers=layers, coefficient=2.0, retain_weight=1.0
  )
  # Decay would move every parameter that is not really frozen.
  optimizer = make_optimizer(
    OptimizerConfig(
      learning_rate=1e-2,
      num_steps=1,
      weight_decay=0.5,
      trainable=rmu.trainable(layers=layers),
    )
  )
  batch = {"forget": testing.batch(KEY), "retain": testing.batch(jax.random.key(1))}
  frozen = {"reference": params, "direction": np.ones(16, np.float32)}

  @jax.jit
  def step(state):
    grads = loss_and_gradients(objective, state.params, frozen, batch, KEY)[1]
    updates, _ = optimizer.update(grads, state.opt_state, state.params)
    return optax.apply_updates(state.params, updates), grads

  start = jax.jit(functools.partial(state_lib.create, optimizer=optimizer))
  trained, grads = step(start(params))
  down = np.asarray(grads["layers"]["mlp"]["down"]["kernel"])
  # The target is the output of the last listed layer: it learns, later ones do not.
  assert [bool(np.any(down[n])) for n in range(3)] == [True, True, False]
  moved = jax.tree.map(lambda x, y: np.asarray(x) != y, trained, params)
  for path, leaf in zip(trees.paths(moved), jax.tree.leaves(moved), strict=True):
    if path == "layers/mlp/down/kernel":
      assert leaf[:2].all() and not leaf[2].any()
    else:
      assert not leaf.any(), path


def test_rmu_weights_both_of_its_terms():
  params, batch = draw_params(1), batch_of("rmu")
  steered, drift = np_objective("rmu", params, FROZEN, batch)
  loss, _, _ = run("rmu", params, batch, forget_weight=0.8, retain_weight=0.2)
  np.testing.assert_allclose(loss, 0.8 * steered + 0.2 * drift / 2.0, rtol=2e-6)
