"""Tests of the one step: against numpy, and on one device against eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax import objectives, testing
from undo_jax.distributed import sharding
from undo_jax.models.decoder import partition_rules
from undo_jax.models.gemma2 import Gemma2
from undo_jax.training import state as state_lib
from undo_jax.training.gradients import sharpness_aware
from undo_jax.training.optimizers import OptimizerConfig, make_optimizer
from undo_jax.training.step import make_step, scan_steps
from undo_jax.utils.types import SumCount

KEY = jax.random.key(4)


# ---- On a model with closed forms.


def squares(params, frozen, batch, key):
  """Distance to the batch's points, moved by noise of the key and `frozen`."""
  error = params["w"] - batch["x"] - frozen - jax.random.normal(key)
  loss = SumCount(jnp.sum(error**2), jnp.float32(batch["x"].shape[0]))
  return loss, {"distance": SumCount(jnp.sum(jnp.abs(error)), loss.count)}


def points(num_steps: int):
  return np.random.default_rng(0).standard_normal((num_steps, 4)).astype(np.float32)


def by_hand(num_steps: int, rate: float):
  """Runs gradient descent in float64 with the key folded by step and microbatch."""
  w, frozen, rows = 0.5, 0.25, []
  for step, x in enumerate(points(num_steps)):
    key = jax.random.fold_in(jax.random.fold_in(KEY, step), 0)
    error = w - np.float64(x) - frozen - float(jax.random.normal(key))
    grad = 2 * error.mean()
    rows.append(((error**2).mean(), np.abs(error).mean(), abs(grad)))
    w -= rate * grad
  return w, np.array(rows)


NAMES = ("loss", "distance", "gradient_norm")


@pytest.mark.parametrize("scanned", [False, True])
def test_steps_are_gradient_descent_with_metrics_before_the_update(scanned):
  optimizer = optax.sgd(0.1)
  step = make_step(squares, optimizer)
  state = state_lib.create({"w": jnp.float32(0.5)}, optimizer)
  assert state.step.dtype == jnp.int32 and state.step == 0
  batches = {"x": jnp.asarray(points(4))}
  frozen = jnp.float32(0.25)
  if scanned:
    state, metrics = jax.jit(scan_steps(step))(state, frozen, batches, KEY)
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
  batch = {"x": jnp.asarray(points(1)[0])}
  _, metrics = make_step(squares, optimizer)(state, jnp.float32(0.25), batch, KEY)
  _, rows = by_hand(1, 0.0)
  np.testing.assert_allclose(metrics["gradient_norm"], rows[0, 2], rtol=2e-6)


def test_a_step_descends_along_the_gradients_it_is_given():
  optimizer = optax.sgd(0.1)
  step = make_step(squares, optimizer, gradients=sharpness_aware(0.2))
  state = state_lib.create({"w": jnp.float32(0.5)}, optimizer)
  batch = {"x": jnp.asarray(points(1)[0])}
  state, metrics = jax.jit(step)(state, jnp.float32(0.25), batch, KEY)
  _, rows = by_hand(1, 0.0)
  w, _ = by_hand(1, 1.0)
  slope = 0.5 - w
  uphill = slope + 2 * 0.2 * np.sign(slope)  # The loss is w^2 + b w + c.
  np.testing.assert_allclose(state.params["w"], 0.5 - 0.1 * uphill, rtol=2e-6)
  np.testing.assert_allclose(metrics["loss"], rows[0, 0], rtol=2e-6)
  np.testing.assert_allclose(metrics["gradient_norm"], abs(uphill), rtol=2e-6)


# ---- One device and eight.

CONFIG = testing.config()
STEPS, RATE = 10, 1e-3


@functools.cache
def parts():
  model = Gemma2(CONFIG)
  optimizer = make_optimizer(
    OptimizerConfig(learning_rate=RATE, num_steps=STEPS, weight_decay=0.1)
  )
  objective = objectives.make("cross_entropy", model.apply)
  normal = np.random.default_rng(0).standard_normal
  params = jax.tree.map(
    lambda s: 0.3 * normal(s.shape).astype(np.float32),
    jax.eval_shape(model.init, jax.random.key(0)),
  )
  batches = [
    jax.device_get(testing.batch(jax.random.key(s), rows=8)) for s in range(STEPS)
  ]
  return objective, optimizer, params, batches


def train(mesh, num_microbatches=1):
  """Returns losses, parameters after one and all steps, and compilations."""
  objective, optimizer, params, batches = parts()
  create = functools.partial(state_lib.create, optimizer=optimizer)
  shapes = jax.eval_shape(create, params)
  shardings = sharding.tree_shardings(shapes, partition_rules(CONFIG), mesh)
  state = jax.jit(create, out_shardings=shardings)(params)
  step = jax.jit(
    make_step(objective, optimizer, num_microbatches=num_microbatches),
    in_shardings=(shardings, None, sharding.batch_sharding(mesh), None),
    out_shardings=(shardings, None),
    donate_argnums=0,
  )
  losses, first = [], None
  for batch in batches:
    given = state
    state, metrics = step(given, None, sharding.put_batch(batch, mesh), KEY)
    losses.append(float(metrics["loss"]))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    # A copy: a view would keep the buffers from being donated.
    first = jax.tree.map(np.array, state.params) if first is None else first
  where = jax.tree.map(lambda leaf: leaf.sharding, state)
  assert where == shardings
  assert step._cache_size() == 1
  return losses, first, jax.device_get(state.params)


@pytest.fixture(scope="module")
def one_device():
  return train(testing.mesh(1))


@pytest.mark.parametrize(
  ("axes", "num_microbatches"),
  [
    ({"data": 8}, 1),
    ({"data": 2, "fsdp": 2, "tensor": 2}, 2),
    ({"data": 1, "fsdp": 8}, 1),
  ],
  ids=["data", "all axes, microbatches", "fsdp"],
)
def test_eight_devices_train_as_one(one_device, axes, num_microbatches):
  losses, first, last = train(testing.mesh(8, **axes), num_microbatches)
  np.testing.assert_allclose(losses, one_device[0], rtol=2e-6)
  # Adam divides gradients by their size: where one is near zero, its rounding is
  # a part of an update; all others agree to float32 accuracy.
  for got, expected, updates in ((first, one_device[1], 1), (last, one_device[2], 10)):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
      error = np.abs(x - y)
      assert np.max(error - 2e-7 * np.abs(y)) <= 0.01 * RATE * updates
      assert np.mean(error) <= 1e-4 * RATE * updates + 3e-8


def test_training_lowers_the_loss_and_moves_every_parameter(one_device):
  _, _, params, _ = parts()
  _, _, last = one_device
  for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(last), strict=True):
    assert np.mean(before != after) > 0.99
