"""Tests of the one step against numpy; on several devices: tests/invariance_test.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax.training import state as state_lib
from undo_jax.training.gradients import sharpness_aware
from undo_jax.training.optimizers import OptimizerConfig, make_optimizer
from undo_jax.training.step import make_step, repeat, scan_steps
from undo_jax.utils.types import SumCount

KEY = jax.random.key(4)


def squares(params, frozen, batch, key):
  """Distance to the batch's points, moved by noise of the key and `frozen`."""
  error = params["w"] - batch["x"] - frozen - jax.random.normal(key)
  loss = SumCount(jnp.sum(error**2), jnp.float32(batch["x"].shape[0]))
  return loss, {"distance": SumCount(jnp.sum(jnp.abs(error)), loss.count)}


def points(num_steps: int):
  return np.random.default_rng(0).standard_normal((num_steps, 4)).astype(np.float32)


def by_hand(num_steps: int, rate: float):
  """Run gradient descent in float64 with the key folded by step and microbatch."""
  w, frozen, rows = 0.5, 0.25, []
  for step, x in enumerate(points(num_steps)):
    key = jax.random.fold_in(jax.random.fold_in(KEY, step), 0)
    error = w - np.float64(x) - frozen - float(jax.random.normal(key))
    grad = 2 * error.mean()
    rows.append(((error**2).mean(), np.abs(error).mean(), abs(grad)))
    w -= rate * grad
  return w, np.array(rows)


NAMES = ("loss", "distance", "gradient_norm")


@pytest.mark.parametrize("together", [None, "scanned", "repeated"])
def test_steps_are_gradient_descent_with_metrics_before_the_update(together):
  optimizer = optax.sgd(0.1)
  step = jax.jit(make_step(squares, optimizer))
  state = state_lib.create({"w": jnp.float32(0.5)}, optimizer)
  assert state.step.dtype == jnp.int32 and state.step == 0
  batches = {"x": points(4)}
  frozen = jnp.float32(0.25)
  if together == "scanned":
    state, metrics = jax.jit(scan_steps(step))(state, frozen, batches, KEY)
    got = np.stack([metrics[name] for name in NAMES], axis=1)
  elif together == "repeated":  # Four of the five batches.
    five = {"x": np.vstack([batches["x"], np.full((1, 4), np.nan, np.float32)])}
    state, metrics = jax.jit(repeat(step))(state, frozen, five, KEY, 4)
    assert all(values[4] == 0 for values in metrics.values())
    metrics = {name: values[:4] for name, values in metrics.items()}
    got = np.stack([metrics[name] for name in NAMES], axis=1)
  else:
    got = []
    for s in range(4):
      state, metrics = step(state, frozen, {"x": batches["x"][s]}, KEY)
      got.append([metrics[name] for name in NAMES])
    assert set(metrics) == set(NAMES)
    assert all(value.dtype == jnp.float32 for value in metrics.values())
  w, rows = by_hand(4, 0.1)
  assert state.step == 4
  np.testing.assert_allclose(state.params["w"], w, rtol=2e-6)
  np.testing.assert_allclose(np.array(got), rows, rtol=5e-6)


def test_the_gradient_norm_is_that_before_clipping():
  optimizer = make_optimizer(
    OptimizerConfig(learning_rate=1.0, num_steps=1, clip_norm=1e-3)
  )
  state = state_lib.create({"w": jnp.float32(0.5)}, optimizer)
  batch = {"x": points(1)[0]}
  step = jax.jit(make_step(squares, optimizer))
  _, metrics = step(state, jnp.float32(0.25), batch, KEY)
  _, rows = by_hand(1, 0.0)
  np.testing.assert_allclose(metrics["gradient_norm"], rows[0, 2], rtol=2e-6)


def test_a_step_descends_along_the_gradients_it_is_given():
  optimizer = optax.sgd(0.1)
  step = make_step(squares, optimizer, gradients=sharpness_aware(0.2))
  state = state_lib.create({"w": jnp.float32(0.5)}, optimizer)
  batch = {"x": points(1)[0]}
  state, metrics = jax.jit(step)(state, jnp.float32(0.25), batch, KEY)
  _, rows = by_hand(1, 0.0)
  w, _ = by_hand(1, 1.0)
  slope = 0.5 - w
  uphill = slope + 2 * 0.2 * np.sign(slope)  # The loss is w^2 + b w + c.
  np.testing.assert_allclose(state.params["w"], 0.5 - 0.1 * uphill, rtol=2e-6)
  np.testing.assert_allclose(metrics["loss"], rows[0, 0], rtol=2e-6)
  np.testing.assert_allclose(metrics["gradient_norm"], abs(uphill), rtol=2e-6)
