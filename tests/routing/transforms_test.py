"""Tests of routing in an optax chain, against hand arithmetic and optax itself."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import pytest

from undo_jax import testing
from undo_jax.routing import transforms
from undo_jax.utils import trees

PARAMS = {
  "old": np.float32([0.5, -2.0, 1.0]),
  "mixed": np.full((2, 3), 0.25, np.float32),
}
MASKS = {
  "retain": trees.mask_from_rules(PARAMS, [("mixed", 1, 2, 0.0)]),
  "forget": trees.mask_from_rules(
    PARAMS, [("old", None, None, 0.0), ("mixed", 1, (0, 1), -0.75)]
  ),
}
ZEROS = jax.tree.map(np.zeros_like, PARAMS)


def gradients(forget, retain):
  return {
    "forget": jax.tree.map(lambda x: np.full_like(x, forget), PARAMS),
    "retain": jax.tree.map(lambda x: np.full_like(x, retain), PARAMS),
  }


def update(transform, params=PARAMS, state=None, updates=ZEROS, **extra):
  @jax.jit
  def compiled(params, state, updates):
    state = transform.init(params) if state is None else state
    return transform.update(updates, state, params, **extra)

  return compiled(params, state, updates)


# ---- The sum over sources.


def test_the_sum_over_sources_is_that_of_hand_arithmetic():
  """T26: 1 * 0.5 - 0.75 on old columns, 1.5 where nothing is masked."""
  masks = {
    "forget": {"w": np.float32([[-0.75, -0.75, 1.0]])},
    "retain": {"w": np.ones((1, 1), np.float32)},
  }
  transform = transforms.route_sources(masks)
  ones = np.ones((2, 3), np.float32)
  grads = {"forget": {"w": ones}, "retain": {"w": 0.5 * ones}}
  got, _ = update(transform, {"w": 0 * ones}, updates=grads)
  np.testing.assert_array_equal(got["w"], [[-0.25, -0.25, 1.5]] * 2)


def test_masks_of_one_give_the_gradient_of_the_summed_loss():
  def loss(params, target):
    return sum(jnp.sum((leaf - target) ** 4) for leaf in jax.tree.leaves(params))

  ones = trees.mask_from_rules(PARAMS, [])
  transform = transforms.route_sources({"forget": ones, "retain": ones})
  gradient = jax.jit(jax.grad(loss))
  grads = {"forget": gradient(PARAMS, 1.0), "retain": gradient(PARAMS, -0.5)}
  got, _ = update(transform, updates=grads)
  expected = jax.jit(jax.grad(lambda p: loss(p, 1.0) + loss(p, -0.5)))(PARAMS)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), got, expected)


def test_the_updates_that_come_in_are_not_read_and_dtypes_kept():
  transform = transforms.route_sources(MASKS)
  grads = jax.tree.map(lambda x: x.astype(jnp.bfloat16), gradients(1.0, 2.0))
  got, _ = update(transform, updates=grads)
  assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("bfloat16")}
  got = jax.device_get(got)
  np.testing.assert_array_equal(got["old"].astype(jnp.float32), [2.0, 2.0, 2.0])
  np.testing.assert_array_equal(
    got["mixed"].astype(jnp.float32), [[1.25, 1.25, 1.0]] * 2
  )


# ---- Routing and optimizers.


@pytest.mark.parametrize("mask", [1.0, 0.1, 1e-3])
def test_adam_does_not_see_the_size_of_a_constant_mask(mask):
  """T20: the same trajectory as without a mask; the sign alone matters."""

  @jax.jit
  def run(mask):
    transform = optax.chain(
      transforms.route_sources({"all": {"x": mask}}), optax.adam(0.01)
    )
    params = {"x": jnp.float32(1.0)}

    def step(carry, _):
      params, state = carry
      grads = {"all": jax.grad(lambda p: (p["x"] - 3.0) ** 2)(params)}
      updates, state = transform.update(grads, state, params)
      return (optax.apply_updates(params, updates), state), None

    carry = (params, transform.init(params))
    return jax.lax.scan(step, carry, None, length=50)[0][0]["x"]

  # Adam by hand.
  x, m, v = 1.0, 0.0, 0.0
  for t in range(1, 51):
    g = 2 * (x - 3.0)
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    x -= 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
  assert x > 1.4
  np.testing.assert_allclose(run(mask), x, rtol=1e-5)
  assert run(-5e-8) < 0.6


def test_momentum_and_decay_move_a_closed_parameter():
  """T21, with the number that AdamW gives by hand."""
  masks = {
    "forget": {"x": np.zeros(1, np.float32)},
    "retain": {"x": np.ones(1, np.float32)},
  }

  def run():
    transform = optax.chain(
      transforms.route_sources(masks), optax.adamw(1e-2, weight_decay=0.1)
    )

    @jax.jit
    def step(params, state, is_open):
      grads = {name: {"x": jnp.full(2, is_open[name])} for name in masks}
      updates, state = transform.update(grads, state, params)
      return optax.apply_updates(params, updates), state, updates

    params, moved = {"x": np.ones(2, np.float32)}, []
    state = jax.jit(transform.init)(params)
    for source in ["retain"] * 20 + ["forget"] * 5:
      is_open = {name: np.float32(name == source) for name in masks}
      params, state, updates = step(params, state, is_open)
      moved.append(np.asarray(updates["x"]))
    return moved

  m = v = 0.0
  x, expected = 1.0, []
  for t in range(1, 26):
    g = 1.0 if t <= 20 else 0.0
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    step = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8) + 0.1 * x
    expected.append(-0.01 * step)
    x += expected[-1]
  assert abs(expected[20]) > 5e-3  # A move as large as with a gradient.
  moved = np.array(run())
  np.testing.assert_allclose(moved, np.array(expected)[:, None].repeat(2, 1), rtol=1e-4)


def test_the_norm_is_clipped_after_routing():
  """T24: eight open entries of one, each 1/sqrt(8) under a norm of 1."""
  masks = {"only": {"x": (np.arange(32) < 8).astype(np.float32)}}
  transform = optax.chain(
    transforms.route_sources(masks), optax.clip_by_global_norm(1.0)
  )
  got, _ = update(
    transform,
    {"x": np.zeros(32, np.float32)},
    updates={"only": {"x": np.ones(32, np.float32)}},
  )
  np.testing.assert_allclose(got["x"], [8**-0.5] * 8 + [0.0] * 24, rtol=1e-6)


# ---- As a whole: compiled, sharded, in populations.


def chain():
  return optax.chain(
    transforms.route_sources(MASKS),
    optax.clip_by_global_norm(1.0),
    optax.adamw(1e-2, weight_decay=0.1),
  )


def run_chain(params, source, steps=3):
  """Update by gradients that differ by source and step; `source` may be traced."""
  transform = chain()

  def step(carry, t):
    params, state = carry
    grads = {
      "forget": jax.tree.map(lambda x: (source == 0) * jnp.cos(x + t), params),
      "retain": jax.tree.map(lambda x: (source == 1) * jnp.sin(x * t), params),
    }
    updates, state = transform.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), None

  times = jnp.arange(1.0, 1.0 + steps)
  return jax.lax.scan(step, (params, transform.init(params)), times)[0][0]


def by_hand(params, source, steps=3):
  """The chain in float64 numpy."""
  theta = {k: np.asarray(v, np.float64) for k, v in params.items()}
  mask = {k: np.asarray(v) for k, v in MASKS[source].items()}
  m = {k: np.zeros_like(v) for k, v in theta.items()}
  v = {k: np.zeros_like(x) for k, x in theta.items()}
  for t in range(1, steps + 1):
    f = (
      (lambda x, t=t: np.cos(x + t))
      if source == "forget"
      else (lambda x, t=t: np.sin(x * t))
    )
    g = {k: mask[k] * f(x) for k, x in theta.items()}
    norm = sum((x**2).sum() for x in g.values()) ** 0.5
    for k, x in theta.items():
      clipped = g[k] / max(norm, 1.0)
      m[k] = 0.9 * m[k] + 0.1 * clipped
      v[k] = 0.999 * v[k] + 0.001 * clipped**2
      u = m[k] / (1 - 0.9**t) / ((v[k] / (1 - 0.999**t)) ** 0.5 + 1e-8)
      theta[k] = x - 1e-2 * (u + 0.1 * x)
  return theta


compiled_chain = jax.jit(run_chain)


@pytest.mark.parametrize("source", MASKS)
def test_the_whole_chain_is_that_of_hand_arithmetic(source):
  got = compiled_chain(PARAMS, sorted(MASKS).index(source))
  expected = by_hand(PARAMS, source)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), got, expected
  )


def test_a_population_takes_a_source_for_each_member():
  population = jax.tree.map(lambda x: np.stack([x, x + np.float32(0.1), 2 * x]), PARAMS)
  source_of = np.array([1, 0, 1])
  got = jax.jit(jax.vmap(run_chain))(population, source_of)
  for r, source in enumerate(source_of):
    one = jax.tree.map(lambda x, r=r: x[r], population)
    expected = by_hand(one, sorted(MASKS)[source])
    jax.tree.map(
      lambda x, y, r=r: np.testing.assert_allclose(x[r], y, rtol=1e-5, atol=1e-6),
      got,
      expected,
    )


def test_eight_devices_give_the_result_of_one():
  """Parameter cut into eight parts, masks as small as they are."""
  rng = np.random.default_rng(0)
  params = {
    "a": rng.standard_normal((16, 8), np.float32),
    "b": rng.standard_normal(8, np.float32),
  }
  masks = {
    "forget": trees.mask_from_rules(params, [("a", 1, range(6), -0.75)]),
    "retain": trees.mask_from_rules(params, [("a", 0, 3, 0.0), ("b", 0, 7, 0.0)]),
  }
  transform = optax.chain(
    transforms.route_sources(masks),
    optax.clip_by_global_norm(0.5),
    optax.adamw(1e-2, weight_decay=0.1),
  )

  def step(params, state):
    grads = {
      "forget": jax.tree.map(jnp.cos, params),
      "retain": jax.tree.map(jnp.sin, params),
    }
    return transform.update(grads, state, params)

  init = jax.jit(transform.init)
  alone = jax.jit(step)(params, init(params))
  mesh = testing.mesh(8, data=1, fsdp=8)
  parts = {
    "a": NamedSharding(mesh, P(None, "fsdp")),
    "b": NamedSharding(mesh, P("fsdp")),
  }
  placed = jax.device_put(params, parts)
  together = jax.jit(step)(placed, init(placed))
  assert together[0]["a"].sharding.shard_shape((16, 8)) == (16, 1)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-8), together, alone
  )


# ---- Bad input.

GRADS = gradients(1.0, 1.0)
WRONG = {"forget": MASKS["forget"], "retain": {"old": np.ones(4), "mixed": np.ones(1)}}


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: transforms.route_sources({}), "at least one source"),
    (
      lambda: update(
        transforms.route_sources(MASKS), updates={"forget": GRADS["forget"]}
      ),
      r"the gradients must have .*\['forget', 'retain'\], got \['forget'\]",
    ),
    (
      lambda: update(transforms.route_sources(WRONG), updates=GRADS),
      r"source 'retain': the mask of old must broadcast to \(3,\), got \(4,\)",
    ),
    (
      lambda: update(
        transforms.route_sources({"forget": {"old": np.ones(3)}}),
        updates={"forget": GRADS["forget"]},
      ),
      "source 'forget' must be a tree like the parameters; missing: mixed",
    ),
  ],
)
def test_bad_input_is_told(call, message):
  with pytest.raises(ValueError, match=message):
    call()
