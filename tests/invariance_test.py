"""Every stage gives the same on 1 and 8 devices; distillation, attack on 2 and 4."""

import functools

import jax
import numpy as np
import pytest

from undo_jax import objectives, testing
from undo_jax.distributed import sharding
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import rmu
from undo_jax.running import programs
from undo_jax.training import optimizers
from undo_jax.training import state as state_lib
from undo_jax.training.optimizers import OptimizerConfig

MODEL = testing.config(num_layers=1)  # Compiling takes longest.
STEPS, RATE = 10, 1e-3
OPTIMIZER = OptimizerConfig(learning_rate=RATE, num_steps=STEPS, weight_decay=0.1)
MESHES = {
  1: {},
  2: {"data": 1, "fsdp": 2},
  4: {"data": 2, "tensor": 2},
  8: {"data": 2, "fsdp": 2, "tensor": 2},
}
RMU = {"layers": (0,), "coefficient": 2.0, "retain_weight": 1.0, "forget_weight": 1.0}
WEIGHTS = {"retain_weight": 1.0, "forget_weight": 1.0}
# What the stages of a run minimize, with options.
STAGES = {
  "cross_entropy": {},
  "max_ent": WEIGHTS,
  "grad_diff": WEIGHTS,
  "rmu": RMU,
  "forward_kl": {"activation_weight": 0.1},
}


@functools.cache
def start(seed):
  """Parameters large enough for gradients well above rounding."""
  normal = np.random.default_rng(seed).standard_normal
  shapes = jax.eval_shape(Decoder(MODEL).init, jax.random.key(0))
  return jax.tree.map(lambda s: 0.3 * normal(s.shape).astype(np.float32), shapes)


def put(tree, abstract):
  """Places a tree as the shapes of a program say; nothing is compiled for it."""
  return jax.tree.map(lambda x, s: sharding.put_whole(x, s.sharding), tree, abstract)


@functools.cache
def batch(step, parts):
  found = {
    part: jax.device_get(testing.batch(jax.random.key(100 * i + step)))
    for i, part in enumerate(parts)
  }
  return found.get("batch", found)


def train(stage, mesh):
  """Returns losses and parameters of ten updates."""
  options = STAGES[stage]
  method = objectives.method(stage, options)
  optimizer = OPTIMIZER
  if stage == "rmu":
    trainable = method.trainable(**options)
    optimizer = OptimizerConfig(
      learning_rate=RATE, num_steps=STEPS, trainable=trainable
    )
  program = programs.training(
    MODEL, mesh, stage, tuple(sorted(options.items())), optimizer, 1
  )
  frozen = {}
  for role in method.frozen:
    if role == "direction":
      direction_D = rmu.random_direction(jax.random.key(7), MODEL.width)
      frozen[role] = sharding.put_whole(direction_D, sharding.replicated(mesh))
    else:
      frozen[role] = put(start(1), programs.abstract_params(MODEL, mesh))
  made = state_lib.create(start(0), optimizers.make_optimizer(optimizer))
  state, losses = put(made, program.abstract), []
  for step in range(STEPS):
    rows = sharding.put_batch(batch(step, method.trains), mesh)
    state, metrics = program.step(state, frozen, rows, jax.random.key(2))
    losses.append(float(metrics["loss"]))
  return losses, jax.device_get(state.params)


def attack(mesh):
  """Returns scores and parameters of a population after ten updates."""
  rates = np.array([RATE, 3 * RATE], np.float32)
  batches = [batch(step, ("batch",)) for step in range(STEPS)]
  stacked = jax.tree.map(lambda *x: np.stack(x).reshape(2, 5, *x[0].shape), *batches)
  problems = jax.device_get(testing.batch(jax.random.key(9)))
  problems |= {"group": np.arange(8, dtype=np.int32) % 2}
  program = programs.attack(
    MODEL, mesh, "language", ("retain", "forget"), 8, OPTIMIZER, len(rates)
  )
  state = program.create(start(0), rates, jax.random.key(1))
  problems = sharding.put_whole(problems, sharding.batch_sharding(mesh))
  rows = sharding.put_batch(stacked, mesh, leading=2)
  state, scores = program.program(state, (), problems, rows, jax.random.key(2))
  found = [x for _, x in sorted(jax.device_get(scores).items())]
  return np.stack(found), jax.device_get(state.params)


def assert_equal(found, expected, rate):
  # Beside the relative error one of nats: GradDiff's loss is a difference near zero.
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
  for x, y in zip(
    *(jax.tree.leaves(each[1]) for each in (found, expected)), strict=True
  ):
    error = np.abs(x - y)
    # Adam divides gradients by their size, which magnifies rounding near zero.
    assert np.max(error) <= 0.02 * rate * STEPS
    assert np.mean(error) <= 2e-4 * rate * STEPS


@pytest.mark.parametrize("stage", STAGES)
def test_ten_updates_are_the_same_on_any_mesh(stage):
  expected = train(stage, testing.mesh(1))
  assert expected[0][0] != expected[0][-1]
  # The axes of the smaller meshes are among those of eight devices.
  for count in (2, 4, 8) if stage == "forward_kl" else (8,):
    assert_equal(train(stage, testing.mesh(count, **MESHES[count])), expected, RATE)


def test_an_attack_is_the_same_on_any_mesh():
  expected = attack(testing.mesh(1))
  for count, axes in MESHES.items():
    if count > 1:
      mesh = testing.mesh(count, **axes | {"data": 1, "replica": axes["data"]})
      assert_equal(attack(mesh), expected, 3 * RATE)
