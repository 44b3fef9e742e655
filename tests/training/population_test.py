"""Tests of populations: each replica is a run of its own."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax import objectives, testing
from undo_jax.distributed import sharding
from undo_jax.models.gemma2 import Output
from undo_jax.training import population
from undo_jax.training import state as state_lib
from undo_jax.training.optimizers import OptimizerConfig, make_population_optimizer
from undo_jax.training.step import make_step, scan_steps

pytestmark = pytest.mark.optimized

KEY = jax.random.key(4)
RATES = np.array([0.0, 1e-4, 1e-3, 1e-2], np.float32)
STEPS = 3
SETTINGS = OptimizerConfig(
  learning_rate=1.0, num_steps=STEPS, weight_decay=0.1, clip_norm=0.5
)


RULES = (("embedding", ("tensor", "fsdp")), (".*kernel", ("fsdp", "tensor")))


@functools.cache
def parts():
  """A model of two matrices: compiling the decoder would take most of the time."""

  def apply(params, tokens):
    hidden_BxLxD = jnp.tanh(jnp.cumsum(params["embedding"][tokens], axis=1))
    return Output(hidden_BxLxD @ params["out"]["kernel"], {})

  objective = objectives.make("cross_entropy", apply)
  rng = np.random.default_rng(0)
  params = {
    "embedding": jnp.asarray(rng.standard_normal((16, 12)), jnp.float32),
    "out": {"kernel": jnp.asarray(rng.standard_normal((12, 16)), jnp.float32)},
  }
  batches = [testing.batch(jax.random.key(s)) for s in range(STEPS)]
  return objective, params, batches


@pytest.fixture(scope="module")
def separate():
  """Loss [R, S] and parameters of runs with a plain optimizer each."""
  objective, params, batches = parts()

  def make_optimizer(rate):
    return optax.chain(
      optax.clip_by_global_norm(0.5), optax.adamw(rate, weight_decay=0.1)
    )

  @jax.jit
  def update(rate, params, opt_state, batch):
    loss, grads = jax.value_and_grad(
      lambda params: objective(params, None, batch, KEY)[0].mean()
    )(params)
    updates, opt_state = make_optimizer(rate).update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss

  losses, finals = [], []
  for rate in RATES:
    trained, opt_state = params, make_optimizer(rate).init(params)
    losses.append([])
    for batch in batches:
      trained, opt_state, loss = update(rate, trained, opt_state, batch)
      losses[-1].append(loss)
    finals.append(trained)
  return np.array(losses), finals


@functools.cache
def compiled():
  objective, _, _ = parts()
  step = make_step(objective, make_population_optimizer(SETTINGS))
  return step, jax.jit(population.over_replicas(step))


def fresh():
  return population.create(parts()[1], make_population_optimizer(SETTINGS), RATES)


def check(state, losses_SxR, separate):
  np.testing.assert_allclose(np.array(losses_SxR).T, separate[0], rtol=2e-6)
  for r, params in enumerate(separate[1]):
    member = jax.tree.map(lambda x, r=r: x[r], state.params)
    # Adam divides gradients by their size: where one is near zero, its rounding is
    # a part of an update; all others agree to float32 accuracy.
    for x, y in zip(jax.tree.leaves(member), jax.tree.leaves(params), strict=True):
      error = np.abs(x - y)
      assert np.max(error - 2e-7 * np.abs(y)) <= 0.01 * RATES[r]
      assert np.mean(error) <= 1e-4 * RATES[r] + 3e-8


def test_a_population_holds_one_copy_and_rate_a_replica():
  state = fresh()
  params = parts()[1]
  jax.tree.map(
    lambda x, y: np.testing.assert_array_equal(x, np.stack([y] * 4)),
    state.params,
    params,
  )
  np.testing.assert_array_equal(state.step, np.zeros(4, np.int32))
  np.testing.assert_array_equal(optax.tree.get(state.opt_state, "learning_rate"), RATES)


def test_replicas_train_as_separate_runs(separate):
  _, step = compiled()
  state, losses = fresh(), []
  for batch in parts()[2]:
    state, metrics = step(state, None, batch, KEY)
    losses.append(metrics["loss"])
  check(state, losses, separate)
  np.testing.assert_array_equal(state.step, np.full(4, STEPS))
  # The rate 0 leaves every parameter as it was.
  jax.tree.map(
    lambda x, y: np.testing.assert_array_equal(x[0], y), state.params, parts()[1]
  )


def scanned(size):
  """Return `(state, frozen, batches, key, group) -> (state, losses [S, n])`."""
  train = scan_steps(population.over_replicas(compiled()[0]))

  def program(state, frozen, batches, key):
    state, metrics = train(state, frozen, batches, key)
    return state, metrics["loss"]

  return population.of_group(program, size)


def begin(params, group, size):
  """Return the state of a group that has not begun."""
  own, rates = (population.group_of(tree, group, size) for tree in (params, RATES))
  optimizer = make_population_optimizer(SETTINGS)
  return population.begin(own, optimizer, rates)._replace(params=params)


def stacked():
  return jax.tree.map(lambda *xs: np.stack(xs), *parts()[2])


def train_in_groups(program, params, size, put=lambda state: state):
  """Return (state at the end, losses [S, R])."""
  losses = np.zeros((STEPS, len(RATES)), np.float32)
  num_groups = len(RATES) // size
  for group in range(num_groups):
    state = put(begin(params, group, size))
    state, of_group = program(state, None, stacked(), KEY, group)
    losses[:, group::num_groups], params = of_group, state.params
  return state, losses


@pytest.mark.parametrize("size", [1, 2, 4])
def test_groups_of_replicas_train_as_separate_runs(separate, size):
  program, params = jax.jit(scanned(size)), population.copies(parts()[1], len(RATES))
  check(*train_in_groups(program, params, size), separate)
  # No more than `size` gradients are computed together.
  lowered = program.lower(begin(params, 0, size), None, stacked(), KEY, 0).as_text()
  gradients = re.findall(r"dot_general.*-> tensor<(\d+)x(?:12x16|16x12)xf32>", lowered)
  assert gradients and set(gradients) == {str(size)}


def test_one_group_alone_has_moments_and_temporaries():
  """Another member costs its parameters."""

  def bytes_of(size):
    optimizer = make_population_optimizer(SETTINGS)
    params = population.copies(parts()[1], size)
    state = population.begin(
      population.group_of(params, 0, 1), optimizer, np.full(1, 1e-3, np.float32)
    )
    program = jax.jit(scanned(1), donate_argnums=0)
    args = state._replace(params=params), None, stacked(), KEY, 0
    memory = program.lower(*args).compile().memory_analysis()
    return memory.argument_size_in_bytes, memory.temp_size_in_bytes

  (small, few), (large, many) = bytes_of(2), bytes_of(8)
  member = sum(4 * x.size for x in jax.tree.leaves(parts()[1]))
  assert large - small == 6 * member and many - few < member


@pytest.mark.parametrize("size", [2, 4])
def test_groups_spread_over_the_mesh_train_as_separate_runs(separate, size):
  _, params, _ = parts()
  mesh = sharding.make_mesh(replica=2, data=2, fsdp=2)
  optimizer = make_population_optimizer(SETTINGS)
  single = jax.eval_shape(lambda p: state_lib.create(p, optimizer), params)
  shardings = population.shardings(sharding.tree_shardings(single, RULES, mesh))
  program = jax.jit(
    scanned(size),
    in_shardings=(
      shardings,
      None,
      sharding.batch_sharding(mesh, leading=1),
      None,
      None,
    ),
    out_shardings=(shardings, None),
  )
  state, losses = train_in_groups(
    program,
    jax.device_put(population.copies(params, len(RATES)), shardings.params),
    size,
    put=lambda state: jax.device_put(state, shardings),
  )
  check(jax.device_get(state), losses, separate)
  kernel = state.params["out"]["kernel"]
  assert kernel.sharding.shard_shape(kernel.shape) == (2, 6, 16)
