"""Compiled programs: the same attack with adapters on one device and on eight."""

import functools
import json

import jax
import numpy as np
import optax
import pytest

from tests import minimal
from undo_jax import objectives, testing
from undo_jax.distributed import sharding
from undo_jax.models.lora import pairs
from undo_jax.plan.noise import NoiseShape
from undo_jax.running import noise_programs, programs
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.utils import trees

TASKS = ("addition_equation", "division_equation")
RATES = np.array([1e-3, 3e-2], np.float32)
ADAPTERS = {
  "rank": 2,
  "alpha": 4.0,
  "targets": [r"layers/(attention/(query|out)|mlp/(up|down))/kernel"],
}
OPTIMIZER = OptimizerConfig(learning_rate=1.0, num_steps=1)
MODEL = testing.config()
EVALUATIONS, UPDATES = 2, 2


def put_params(model, mesh):
  return jax.tree.map(
    lambda x, s: sharding.put_whole(x, s.sharding),
    minimal.params(model),
    programs.abstract_params(model, mesh),
  )


@functools.cache
def batch(seed):
  return jax.device_get(testing.batch(jax.random.key(seed)))


def attacked(mesh):
  """Return (base before and after, fresh adapters, trained adapters, scores)."""
  batches = [batch(seed) for seed in range(EVALUATIONS * UPDATES)]
  stacked = jax.tree.map(
    lambda *x: np.stack(x).reshape(EVALUATIONS, UPDATES, *x[0].shape), *batches
  )
  rows = batch(9)
  problems = {  # One token to get right.
    "inputs": rows["inputs"],
    "positions": np.full((8, 1), 5),
    "targets": rows["targets"][:, 5:6],
    "mask": np.ones((8, 1), bool),
    "task": np.arange(8) % 2,
  }
  adversary = "lora", json.dumps(ADAPTERS)
  attack = programs.attack(
    MODEL, mesh, "arithmetic", TASKS, 8, OPTIMIZER, len(RATES), adversary
  )
  assert attack.reads_base
  params = put_params(MODEL, mesh)
  before = jax.device_get(params)
  state = attack.create(params, RATES, jax.random.key(1))
  jax.tree.map(
    lambda x, y: np.testing.assert_equal(x.shape, y.shape), state, attack.abstract
  )
  fresh = jax.device_get(state.params)
  state, scores = attack.program(
    state,
    {"base": params},
    problems,
    sharding.put_batch(stacked, mesh, leading=2),
    jax.random.key(2),
    0,
  )
  return (before, jax.device_get(params)), fresh, state.params, scores


@pytest.fixture(scope="module")
def alone():
  return attacked(testing.mesh(1))


def test_members_start_alike_train_apart_and_leave_the_base(alone):
  (before, after), fresh, trained, scores = alone
  jax.tree.map(np.testing.assert_array_equal, before, after)
  assert sorted(pairs(fresh)) == [
    "layers/attention/out/kernel",
    "layers/attention/query/kernel",
    "layers/mlp/down/kernel",
    "layers/mlp/up/kernel",
  ]
  for a, b in pairs(fresh).values():
    np.testing.assert_array_equal(a[0], a[1])
    assert np.any(a != 0) and not np.any(b)
  for a, b in pairs(jax.device_get(trained)).values():
    # Adam moves an entry by about the rate at each update: b sums up to four.
    for r, rate in enumerate(RATES):
      assert rate < np.abs(b[r]).max() <= 4.1 * rate
    assert np.any(a[0] != a[1])
  assert {name: x.shape for name, x in scores.items()} == dict.fromkeys(
    ("retain", "forget", *TASKS), (EVALUATIONS, len(RATES))
  )


def test_eight_devices_share_the_work_and_change_nothing(alone):
  mesh = testing.mesh(8, data=1, replica=2, fsdp=2, tensor=2)
  _, fresh, trained, scores = attacked(mesh)
  jax.tree.map(np.testing.assert_array_equal, fresh, alone[1])
  where = dict(zip(trees.paths(trained), jax.tree.leaves(trained), strict=True))
  up = where["layers/mlp/up/kernel/a"], where["layers/mlp/up/kernel/b"]
  assert [x.sharding.shard_shape(x.shape) for x in up] == [(1, 2, 8, 2), (1, 2, 2, 16)]
  for x, y in zip(jax.tree.leaves(trained), jax.tree.leaves(alone[2]), strict=True):
    for r, rate in enumerate(RATES):
      error = np.abs(np.asarray(x[r]) - np.asarray(y[r]))
      # Adam divides gradients by their size, which magnifies rounding near zero.
      assert error.max() <= 0.05 * rate and error.mean() <= 1e-3 * rate
  for name, score in scores.items():
    np.testing.assert_array_equal(score, alone[3][name])


def test_noise_by_rules_is_the_same_on_eight_devices():
  rules = (("layers/mlp/.*", (1,), 1.0), ("layers/.*", (), 0.0))
  made = []
  for mesh in (testing.mesh(1), testing.mesh(8, data=2, fsdp=2, tensor=2)):
    params = put_params(MODEL, mesh)
    program = noise_programs.noise(MODEL, mesh, (), rules)
    made.append(jax.device_get(program(params, jax.random.key(1), 0.5, 0.1)))
  # Multiplied and added in one rounding, or in two.
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-8), *made)
  before, after = minimal.params(MODEL), made[0]
  moved = jax.tree.map(
    lambda x, y: np.mean(x != y, axis=tuple(range(1, x.ndim))), before, after
  )
  assert np.array_equal(moved["layers"]["mlp"]["up"]["kernel"], [0, 1])
  assert not np.any(moved["layers"]["attention"]["query"]["kernel"])
  assert np.all(moved["embedding"] > 0)


def test_normal_noise_on_every_weight_is_the_same_on_eight_devices():
  made = []
  for mesh in (testing.mesh(1), testing.mesh(8, data=2, fsdp=2, tensor=2)):
    program = noise_programs.noise(MODEL, mesh, (), (), std=0.02)
    given = put_params(MODEL, mesh), jax.random.key(1), 0.0, 0.0
    made.append(jax.device_get(program(*given)))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-8), *made)
  moved = jax.tree.map(lambda x, y: np.ravel(y - x), minimal.params(MODEL), made[0])
  noise = np.concatenate(jax.tree.leaves(moved))
  assert abs(np.std(noise) / 0.02 - 1) < 5 / np.sqrt(2 * noise.size)


def test_pruning_sets_the_smallest_weights_to_zero_on_any_devices():
  before, made = minimal.params(MODEL), []
  shape = NoiseShape(by="magnitude", share=0.3)
  for mesh in (testing.mesh(1), testing.mesh(8, data=2, fsdp=2, tensor=2)):
    program = noise_programs.noise(MODEL, mesh, (), (), shape)
    params = put_params(MODEL, mesh)
    made.append(jax.device_get(program(params, jax.random.key(1), 1.0, 0.0)))
  jax.tree.map(np.testing.assert_array_equal, *made)
  flat = [
    np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    for tree in (before, made[0])
  ]
  sizes, is_zero = abs(flat[0]), flat[1] == 0
  assert is_zero.sum() == sizes.size - round(0.7 * sizes.size)
  assert sizes[is_zero].max() < sizes[~is_zero].min()
  np.testing.assert_array_equal(flat[1][~is_zero], flat[0][~is_zero])


def test_where_training_began_lies_where_the_parameters_do():
  mesh = testing.mesh(8, data=2, fsdp=2, tensor=2)
  displaced = OptimizerConfig(learning_rate=1.0, num_steps=2, displacement=-1.0)
  state = programs.training(MODEL, mesh, "cross_entropy", (), displaced, 1).abstract
  jax.tree.map(
    lambda x, y: np.testing.assert_equal(x.sharding, y.sharding),
    optax.tree.get(state.opt_state, "start"),
    state.params,
  )


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("invariant", {"around": "grad_diff", "retain_weight": 1.0}),
    ("mudman", {}),
    ("rep_select", {"components": 4}),
  ],
)
def test_derivatives_of_derivatives_and_carried_weights_lie_on_many_devices(
  name, options
):
  """Traced, not compiled: where activations lie must have the rules that these need."""
  mesh = testing.mesh(8, data=2, fsdp=2, tensor=2)
  given = tuple(sorted(options.items()))
  made = programs.training(MODEL, mesh, name, given, OPTIMIZER, 1)
  parts = dict.fromkeys(objectives.method(name, options).trains, batch(0))
  rows = sharding.put_batch(parts, mesh)
  state, metrics = jax.eval_shape(made.step, made.abstract, {}, rows, jax.random.key(0))
  jax.tree.map(
    lambda x, y: np.testing.assert_equal(x.shape, y.shape),
    state.params,
    made.abstract.params,
  )
  assert {"loss", "gradient_norm"} < set(metrics)


def test_a_frozen_model_is_held_in_the_compute_dtype_and_reads_the_same():
  mesh = testing.mesh(1)
  model = testing.config(dtype="bfloat16")
  params = put_params(model, mesh)
  frozen = programs.freeze(model, mesh)(params)
  dtypes = jax.tree.map(lambda x: x.dtype.name, frozen)
  assert dtypes["embedding"] == dtypes["layers"]["mlp"]["up"]["kernel"] == "bfloat16"
  assert dtypes["final_norm"]["scale"] == "float32"
  abstract = programs.abstract_frozen(model, mesh)
  assert jax.tree.map(lambda x: x.dtype.name, abstract) == dtypes
