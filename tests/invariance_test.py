"""Every stage gives the same on 1 and 8 devices; plain training on 2 and 4."""

import functools
import math

import jax
import numpy as np
import pytest

from undo_jax import objectives, testing
from undo_jax.distributed import sharding
from undo_jax.running import programs
from undo_jax.training import optimizers
from undo_jax.training import state as state_lib
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.utils import trees

MODEL = testing.config(num_layers=1)  # Compiling takes longest.
STEPS, RATE = 10, 1e-3
OPTIMIZER = OptimizerConfig(learning_rate=RATE, num_steps=STEPS, weight_decay=0.1)
ALL_AXES = {"data": 2, "fsdp": 2, "tensor": 2}
RMU = {"layers": (0,), "coefficient": 2.0, "retain_weight": 1.0, "forget_weight": 1.0}
# What the stages of a run minimize, with options. GradDiff's terms are both the
# cross-entropy, which is one of MaxEnt's.
STAGES = {
  "cross_entropy": {},
  "max_ent": {"retain_weight": 1.0, "forget_weight": 1.0},
  "rmu": RMU,
  "forward_kl": {"activation_weight": 0.1},
}


def put(tree, abstract):
  """Place a tree as the shapes of a program say; nothing is compiled for it."""
  return jax.tree.map(lambda x, s: sharding.put_whole(x, s.sharding), tree, abstract)


@functools.cache
def batch(step, parts):
  arrays = {
    part: jax.device_get(testing.batch(jax.random.key(100 * i + step)))
    for i, part in enumerate(parts)
  }
  return arrays.get("batch", arrays)


def train(stage, mesh, num_microbatches=1):
  """Return losses, parameters after one and after ten updates."""
  options = STAGES[stage]
  method = objectives.method(stage, options)
  optimizer = OPTIMIZER
  if stage == "rmu":
    trainable = method.trainable(**options)
    optimizer = OptimizerConfig(
      learning_rate=RATE, num_steps=STEPS, trainable=trainable
    )
  program = programs.training(
    MODEL, mesh, stage, tuple(sorted(options.items())), optimizer, num_microbatches
  )
  frozen = {}
  for role in method.frozen:
    if role == "direction":
      direction_D = np.full(MODEL.width, MODEL.width**-0.5, np.float32)
      frozen[role] = sharding.put_whole(direction_D, sharding.replicated(mesh))
    else:
      given = testing.weights(MODEL, seed=1)
      frozen[role] = put(given, programs.abstract_params(MODEL, mesh))
  made = state_lib.create(testing.weights(MODEL), optimizers.make_optimizer(optimizer))
  state, losses, first = put(made, program.abstract), [], None
  for step in range(STEPS):
    rows, given = sharding.put_batch(batch(step, method.trains), mesh), state
    state, metrics = program.step(given, frozen, rows, jax.random.key(2))
    losses.append(float(metrics["loss"]))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    # A copy: a view would keep the buffers from being donated.
    first = jax.tree.map(np.array, state.params) if first is None else first
  where = jax.tree.map(lambda leaf: leaf.sharding, state)
  assert where == jax.tree.map(lambda leaf: leaf.sharding, program.abstract)
  assert program.step._cache_size() == 1
  return losses, first, jax.device_get(state.params)


def attack(mesh):
  """Return scores and parameters of a population after ten updates."""
  rates = np.array([RATE, 3 * RATE], np.float32)
  batches = [batch(step, ("batch",)) for step in range(STEPS)]
  stacked = jax.tree.map(lambda *x: np.stack(x).reshape(2, 5, *x[0].shape), *batches)
  problems = jax.device_get(testing.batch(jax.random.key(9)))
  problems |= {"group": np.arange(8, dtype=np.int32) % 2}
  program = programs.attack(
    MODEL, mesh, "language", ("retain", "forget"), 8, OPTIMIZER, len(rates)
  )
  state = program.create(testing.weights(MODEL), rates, jax.random.key(1))
  problems = sharding.put_whole(problems, sharding.batch_sharding(mesh))
  rows = sharding.put_batch(stacked, mesh, leading=2)
  state, scores = program.program(state, (), problems, rows, jax.random.key(2), 0)
  curves = [x for _, x in sorted(jax.device_get(scores).items())]
  return np.stack(curves), jax.device_get(state.params)


def differences(actual, expected):
  """Yield of each array the errors and the size of what is expected."""
  for x, y in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    yield np.abs(x - y), np.abs(y)


def assert_equal(actual, expected, rate):
  np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
  for error, _ in differences(actual[-1], expected[-1]):
    # Adam divides gradients by their size, which magnifies rounding near zero.
    assert np.max(error) <= 0.02 * rate * STEPS
    assert np.mean(error) <= 2e-4 * rate * STEPS


@pytest.fixture(scope="module")
def one_device():
  return train("cross_entropy", testing.mesh(1))


@pytest.mark.parametrize(
  ("axes", "num_microbatches"),
  [
    ({"data": 1, "fsdp": 2}, 1),
    ({"data": 2, "tensor": 2}, 1),
    ({"data": 8}, 1),
    (ALL_AXES, 2),
  ],
  ids=["fsdp", "data and tensor", "data", "all axes, microbatches"],
)
def test_any_mesh_trains_as_one_device(one_device, axes, num_microbatches):
  mesh = testing.mesh(math.prod(axes.values()), **axes)
  losses, *trees = train("cross_entropy", mesh, num_microbatches)
  np.testing.assert_allclose(losses, one_device[0], rtol=2e-6)
  # Adam divides gradients by their size: where one is near zero, its rounding is
  # a part of an update; all others agree to float32 accuracy.
  for got, expected, updates in zip(trees, one_device[1:], (1, STEPS), strict=True):
    for error, size in differences(got, expected):
      assert np.max(error - 2e-7 * size) <= 0.01 * RATE * updates
      assert np.mean(error) <= 1e-4 * RATE * updates + 3e-8


def test_training_lowers_the_loss_and_moves_every_parameter(one_device):
  losses, _, last = one_device
  assert losses[-1] < losses[0]
  for error, _ in differences(last, testing.weights(MODEL)):
    assert np.mean(error > 0) > 0.99


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "cross_entropy"])
def test_ten_updates_are_the_same_on_eight_devices(stage):
  expected = train(stage, testing.mesh(1))
  assert expected[0][0] != expected[0][-1]
  if stage == "rmu":
    errors = [error for error, _ in differences(expected[-1], testing.weights(MODEL))]
    moved = zip(trees.paths(expected[-1]), map(np.any, errors), strict=True)
    assert [path for path, has in moved if has] == ["layers/mlp/down/kernel"]
  # The axes of the smaller meshes are among those of eight devices.
  assert_equal(train(stage, testing.mesh(8, **ALL_AXES)), expected, RATE)


def test_an_attack_is_the_same_on_eight_devices():
  mesh = testing.mesh(8, **ALL_AXES | {"data": 1, "replica": 2})
  assert_equal(attack(mesh), attack(testing.mesh(1)), 3 * RATE)
