"""Tests of schedules and optimizers against numpy."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax.training.optimizers import (
  RULES,
  OptimizerConfig,
  begin_decay,
  decay_begin,
  make_optimizer,
  make_population_optimizer,
  schedule,
  trainable_rules,
)
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError


def config(**changes):
  return OptimizerConfig(**({"learning_rate": 1e-2, "num_steps": 5} | changes))


@pytest.mark.parametrize(
  ("step", "value"),
  [(0, 0), (1, 1.4e-5), (25, 3.5e-4), (50, 7e-4), (525, 3.85e-4), (1000, 7e-5)],
)
def test_the_schedule_has_the_published_values(step, value):
  fn = schedule(
    OptimizerConfig(
      learning_rate=7e-4, final_learning_rate=7e-5, warmup_steps=50, num_steps=1000
    )
  )
  np.testing.assert_allclose(fn(step), value, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0, 1, 7, 40])
@pytest.mark.parametrize("final", [None, 0.0, 1e-4, 3e-3])
def test_the_schedule_is_its_formula(warmup, final):
  peak, T = 3e-3, 40
  fn = schedule(
    OptimizerConfig(
      learning_rate=peak, final_learning_rate=final, warmup_steps=warmup, num_steps=T
    )
  )
  steps = range(60)
  values = jax.jit(jax.vmap(lambda step: jnp.float32(fn(step))))(np.array(steps))
  for step, value in zip(steps, values, strict=True):
    if step < warmup:
      expected = peak * step / warmup
    elif final is None or warmup == T:
      expected = peak
    else:
      progress = min(1.0, (step - warmup) / (T - warmup))  # Held after the end.
      expected = final + (peak - final) * (1 + np.cos(np.pi * progress)) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6 * peak)


@pytest.mark.parametrize("decay", ["linear", "1-sqrt"])
@pytest.mark.parametrize(("warmup", "num_decay"), [(0, 1), (7, 12), (28, 12), (0, 40)])
def test_warm_up_stable_decay_is_its_formula(decay, warmup, num_decay):
  peak, final, T = 3e-3, 2e-4, 40
  fn = schedule(
    OptimizerConfig(
      learning_rate=peak,
      final_learning_rate=final,
      warmup_steps=warmup,
      num_steps=T,
      decay_steps=num_decay,
      decay=decay,
    )
  )
  steps = range(60)
  values = jax.jit(jax.vmap(lambda step: jnp.float32(fn(step))))(np.array(steps))
  for step, value in zip(steps, values, strict=True):
    if step < warmup:
      expected = peak * step / warmup
    elif step < T - num_decay:
      expected = peak
    else:
      q = min(1.0, (step - (T - num_decay)) / num_decay)
      expected = final + (peak - final) * (1 - (q if decay == "linear" else q**0.5))
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6 * peak)


def draw(seed: int, scale: float = 1.0):
  rng = np.random.default_rng(seed)
  return {
    "matrix": scale * rng.standard_normal((3, 4)),
    "vector": scale * rng.standard_normal(5),
  }


def to_jax(tree):
  return jax.tree.map(np.float32, tree)


def adamw(params, grads_S, rates_S, *, clip=1.0, decay=0.0, masks=None):
  """Run AdamW in float64: betas 0.9 and 0.999, eps 1e-8 outside the root."""
  clip = np.inf if clip is None else clip
  masks = masks or dict.fromkeys(params, 1.0)
  params = dict(params)
  m, v = dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0)
  for s, (grads, rate) in enumerate(zip(grads_S, rates_S, strict=True), start=1):
    grads = {k: g * masks[k] for k, g in grads.items()}
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    for k, g in grads.items():
      g = g * min(1.0, clip / max(norm, 1e-30))
      m[k] = 0.9 * m[k] + 0.1 * g
      v[k] = 0.999 * v[k] + 0.001 * g**2
      direction = m[k] / (1 - 0.9**s) / (np.sqrt(v[k] / (1 - 0.999**s)) + 1e-8)
      params[k] = params[k] - rate * masks[k] * (direction + decay * params[k])
  return params


def run(optimizer, params, grads_S, state=None):
  params = to_jax(params)
  state = jax.jit(optimizer.init)(params) if state is None else state

  @jax.jit
  def update(params, state, grads):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for grads in grads_S:
    params, state = update(params, state, to_jax(grads))
  return jax.device_get(params)


def assert_close(got, expected, rate=1e-2):
  # The bias correction 1 - 0.999^s ~ 1e-3 is a difference of float32 numbers near
  # one: it is off by 6e-5, its root by 3e-5, relative to an update of size `rate`.
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=5e-7, atol=5 * 3e-5 * rate),
    got,
    expected,
  )


# Norms far over and under the clip norm, and zero.
GRADS = [draw(1, 10.0), draw(2, 1e-3), draw(3, 1.0), draw(4, 0.0), draw(5, 0.1)]


@pytest.mark.parametrize(
  ("clip", "decay"), [(1.0, 0.0), (0.1, 0.3), (1e6, 0.3), (None, 0.3)]
)
def test_updates_are_those_of_adamw_after_clipping(decay, clip):
  optimizer = make_optimizer(config(weight_decay=decay, clip_norm=clip))
  expected = adamw(draw(0), GRADS, [1e-2] * 5, clip=clip, decay=decay)
  assert_close(run(optimizer, draw(0), GRADS), expected)


def test_updates_follow_the_schedule_with_the_first_one_zero():
  optimizer = make_optimizer(config(warmup_steps=2, final_learning_rate=1e-3))
  one = run(optimizer, draw(0), GRADS[:1])
  jax.tree.map(np.testing.assert_array_equal, one, to_jax(draw(0)))
  cosine = [1e-3 + 9e-3 * (1 + np.cos(np.pi * p / 3)) / 2 for p in range(3)]
  expected = adamw(draw(0), GRADS, [0.0, 5e-3, *cosine])
  assert_close(run(optimizer, draw(0), GRADS), expected)


def test_frozen_parameters_neither_move_nor_use_up_the_norm():
  pairs = (("matrix", (0, 2)),)
  optimizer = make_optimizer(config(weight_decay=0.3, trainable=pairs))
  masks = {"matrix": np.array([[1.0], [0.0], [1.0]]), "vector": 0.0}
  grads_S = [grads | {"vector": 100 * grads["vector"]} for grads in GRADS]
  got = run(optimizer, draw(0), grads_S)
  assert_close(got, adamw(draw(0), grads_S, [1e-2] * 5, decay=0.3, masks=masks))
  start = to_jax(draw(0))
  np.testing.assert_array_equal(got["vector"], start["vector"])
  np.testing.assert_array_equal(got["matrix"][1], start["matrix"][1])
  assert np.all(got["matrix"][0] != start["matrix"][0])


def test_a_trainable_rule_that_matches_nothing_is_an_error():
  optimizer = make_optimizer(config(trainable=(("bias", ()),)))
  params = to_jax(draw(0))
  with pytest.raises(ValueError, match="matches no parameter"):
    optimizer.update(params, optimizer.init(params), params)


@pytest.mark.parametrize("rate", [0.0, 1e-3, 5e-2])
def test_the_population_optimizer_takes_the_rate_from_its_state(rate):
  optimizer = make_population_optimizer(config(weight_decay=0.3))
  state = jax.jit(optimizer.init)(to_jax(draw(0)))
  state = optax.tree.set(state, learning_rate=np.float32(rate))
  got = run(optimizer, draw(0), GRADS, state)
  assert_close(got, adamw(draw(0), GRADS, [rate] * 5, decay=0.3), rate)


def test_a_population_warms_up_from_zero():
  optimizer = make_population_optimizer(config(weight_decay=0.3, warmup_steps=2))
  state = optax.tree.set(optimizer.init(to_jax(draw(0))), learning_rate=1e-2)
  got = run(optimizer, draw(0), GRADS, state)
  rates = [0.0, 5e-3, 1e-2, 1e-2, 1e-2]
  assert_close(got, adamw(draw(0), GRADS, rates, decay=0.3))


def test_still_updates_fill_the_moments_and_move_nothing():
  how = config(weight_decay=0.3, warmup_steps=2, still_steps=2)
  optimizer = make_population_optimizer(how)
  state = optax.tree.set(optimizer.init(to_jax(draw(0))), learning_rate=1e-2)
  still = run(optimizer, draw(0), GRADS[:3], state)  # The warm-up begins at 0 too.
  jax.tree.map(np.testing.assert_array_equal, still, to_jax(draw(0)))
  got, rates = run(optimizer, draw(0), GRADS, state), [0.0, 0.0, 0.0, 5e-3, 1e-2]
  assert_close(got, adamw(draw(0), GRADS, rates, decay=0.3))
  fresh = adamw(draw(0), GRADS[3:], rates[3:], decay=0.3)
  assert np.abs(got["vector"] - fresh["vector"]).max() > 1e-3
  actual = [float(schedule(how)(step)) for step in range(5)]
  np.testing.assert_allclose(actual, rates, rtol=1e-6)


def test_a_populations_rate_may_fall_to_zero():
  how = {
    "learning_rate": 1.0,
    "final_learning_rate": 0.0,
    "name": "sgd",
    "num_steps": 4,
  }
  optimizer = make_population_optimizer(OptimizerConfig(**how, clip_norm=None))
  params, grads = {"w": jnp.zeros(1)}, {"w": jnp.ones(1)}
  state = optax.tree.set(optimizer.init(params), learning_rate=0.3)
  momentum, rates = 0.0, []
  for _ in range(5):
    updates, state = jax.jit(optimizer.update)(grads, state, params)
    momentum = 0.9 * momentum + 1
    rates.append(-float(updates["w"][0]) / momentum)
  expected = 0.3 * (1 + np.cos(np.pi * np.arange(5) / 4)) / 2
  np.testing.assert_allclose(rates, expected, atol=1e-7)


def test_a_population_freezes_as_a_single_model_does():
  pairs = (("matrix", (0, 2)),)
  optimizer = make_population_optimizer(config(weight_decay=0.3, trainable=pairs))
  grads_S = [grads | {"vector": 100 * grads["vector"]} for grads in GRADS]
  masks = {"matrix": np.array([[1.0], [0.0], [1.0]]), "vector": 0.0}
  got = run(optimizer, draw(0), grads_S)
  assert_close(got, adamw(draw(0), grads_S, [1e-2] * 5, decay=0.3, masks=masks))
  np.testing.assert_array_equal(got["vector"], to_jax(draw(0))["vector"])


# ---- Muon.


def draw_stacks(seed: int, scale: float = 1.0):
  """Wide and tall stacks, a matrix that is none of the model's layers, a vector."""
  rng = np.random.default_rng(seed)
  shapes = {"wide": (2, 4, 10), "tall": (3, 6, 3), "embedding": (5, 4), "norm": (4,)}
  return {name: scale * rng.standard_normal(shape) for name, shape in shapes.items()}


def orthogonalized(matrix):
  """Five turns of a x + b (x x^T) x + c (x x^T)^2 x from x / |x|, in float64."""
  x = matrix / np.linalg.norm(matrix)
  for _ in range(5):
    square = x @ x.T
    x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
  return x


def muon(params, grads_S, rate, *, decay, masks=None):
  """Run Muon on stacks and Adam on the rest, both with Nesterov's momentum."""
  masks = masks or dict.fromkeys(params, 1.0)
  params, m, v = dict(params), dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0)
  for s, grads in enumerate(grads_S, start=1):
    for k, g in grads.items():
      g = g * masks[k]
      beta = 0.95 if g.ndim == 3 else 0.9
      m[k] = beta * m[k] + (1 - beta) * g
      ahead = beta * m[k] / (1 - beta ** (s + 1)) + (1 - beta) * g / (1 - beta**s)
      if g.ndim == 3:
        longer = np.sqrt(max(1.0, g.shape[2] / g.shape[1]))
        direction = longer * np.stack([orthogonalized(matrix) for matrix in ahead])
      else:
        v[k] = 0.999 * v[k] + 0.001 * g**2
        direction = ahead / (np.sqrt(v[k] / (1 - 0.999**s)) + 1e-8)
      params[k] = params[k] - rate * masks[k] * (direction + decay * params[k])
  return params


STACKS = [draw_stacks(seed, scale) for seed, scale in ((1, 10.0), (2, 0.1), (3, 1.0))]


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_muon_orthogonalizes_the_momentum_of_stacks_and_leaves_the_rest_to_adam(decay):
  settings = config(name="muon", weight_decay=decay, clip_norm=None)
  got = run(make_optimizer(settings), draw_stacks(0), STACKS)
  assert_close(got, muon(draw_stacks(0), STACKS, 1e-2, decay=decay))


def test_muon_makes_the_updates_of_a_matrix_alike_in_all_directions():
  """What Newton-Schulz is for: singular values near one, whatever they were."""
  settings = config(name="muon", clip_norm=None)
  start = draw_stacks(0)
  moved = run(make_optimizer(settings), start, STACKS[:1])
  for name in ("wide", "tall"):
    update = (np.asarray(moved[name], np.float64) - start[name]) / 1e-2
    update /= np.sqrt(max(1.0, update.shape[2] / update.shape[1]))
    values = np.linalg.svd(update, compute_uv=False)
    assert 0.5 < values.min() and values.max() < 1.5
    raw = np.linalg.svd(STACKS[0][name], compute_uv=False)
    assert raw.max() > 2 * raw.min()


def test_a_population_trains_by_muon_at_the_rate_of_its_state():
  settings = config(name="muon", weight_decay=0.3, clip_norm=None)
  optimizer = make_population_optimizer(settings)
  state = optax.tree.set(optimizer.init(to_jax(draw_stacks(0))), learning_rate=3e-3)
  got = run(optimizer, draw_stacks(0), STACKS, state)
  assert_close(got, muon(draw_stacks(0), STACKS, 3e-3, decay=0.3), 3e-3)


def test_muon_leaves_frozen_layers_alone():
  pairs = (("wide", (1,)), ("norm", ()))
  settings = config(name="muon", weight_decay=0.3, clip_norm=None, trainable=pairs)
  got = run(make_optimizer(settings), draw_stacks(0), STACKS)
  start = to_jax(draw_stacks(0))
  for name in ("tall", "embedding"):
    np.testing.assert_array_equal(got[name], start[name])
  np.testing.assert_array_equal(got["wide"][0], start["wide"][0])
  expected = muon(draw_stacks(0), STACKS, 1e-2, decay=0.3)
  assert_close(
    {"wide": got["wide"][1], "norm": got["norm"]},
    {"wide": expected["wide"][1], "norm": expected["norm"]},
  )


# ---- The registry.

THEIRS = """
import optax
from undo_jax.training.optimizers import UpdateRule

SGD = UpdateRule(make=lambda rate, decay: optax.sgd(rate))
NO_RULE = optax.sgd
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
  """A module of someone else, with an optimizer."""
  (tmp_path / "their_optimizers.py").write_text(THEIRS)
  monkeypatch.syspath_prepend(tmp_path)
  yield
  sys.modules.pop("their_optimizers", None)


@pytest.mark.usefixtures("theirs")
def test_an_optimizer_may_be_someone_elses():
  settings = config(name="their_optimizers:SGD", clip_norm=None, warmup_steps=1)
  expected = {
    name: leaf - 1e-2 * sum(grads[name] for grads in GRADS[1:])
    for name, leaf in draw(0).items()
  }
  assert_close(run(make_optimizer(settings), draw(0), GRADS), expected)
  optimizer = make_population_optimizer(settings)
  state = optax.tree.set(optimizer.init(to_jax(draw(0))), learning_rate=1e-2)
  assert_close(run(optimizer, draw(0), GRADS, state), expected)


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
  "name",
  ["adamv", "their_optimizers:ADAM", "their_optimizers:NO_RULE", "no_such_module:SGD"],
)
def test_what_is_no_optimizer_is_told_in_one_line(name):
  with pytest.raises(ConfigError) as error:
    RULES.get(name)
  assert name in str(error.value) and "\n" not in str(error.value)


def test_ours_are_known_by_name():
  assert list(RULES) == ["adamw", "descent", "lion", "muon", "nesterov", "sgd"]


def sgd(params, grads_S, rate, *, decay, nesterov=False, momentum=0.9):
  params, m = dict(params), dict.fromkeys(params, 0.0)
  for grads in grads_S:
    for k, g in grads.items():
      m[k] = momentum * m[k] + g
      direction = momentum * m[k] + g if nesterov else m[k]
      params[k] = params[k] - rate * (direction + decay * params[k])
  return params


def lion(params, grads_S, rate, *, decay):
  params, m = dict(params), dict.fromkeys(params, 0.0)
  for grads in grads_S:
    for k, g in grads.items():
      direction = np.sign(0.9 * m[k] + 0.1 * g)
      m[k] = 0.99 * m[k] + 0.01 * g
      params[k] = params[k] - rate * (direction + decay * params[k])
  return params


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", ["sgd", "nesterov", "lion", "descent"])
def test_momentum_and_its_sign_are_their_formulas(name, decay):
  settings = config(name=name, weight_decay=decay, clip_norm=None)
  got = run(make_optimizer(settings), draw(0), GRADS)
  if name == "lion":
    expected = lion(draw(0), GRADS, 1e-2, decay=decay)
  else:
    how = {
      "nesterov": name == "nesterov",
      "momentum": 0.0 if name == "descent" else 0.9,
    }
    expected = sgd(draw(0), GRADS, 1e-2, decay=decay, **how)
  assert_close(got, expected)


def test_pairs_of_a_config_are_rules_of_layers_or_of_all():
  pairs = [["layers/mlp/.*", [1]], ["layers/attention/.*", []], ["embedding", ()]]
  params = {
    "layers": {name: {"kernel": jnp.zeros((2, 3, 4))} for name in ("attention", "mlp")},
    "embedding": jnp.zeros((5, 3)),
    "scale": jnp.zeros(3),
  }
  masks = trees.mask_from_rules(params, trainable_rules(pairs), default=0.0)
  assert masks["layers"]["mlp"]["kernel"].squeeze().tolist() == [0.0, 1.0]
  assert masks["layers"]["attention"]["kernel"].squeeze() == 1.0
  assert (masks["embedding"].squeeze(), masks["scale"].squeeze()) == (1.0, 0.0)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"learning_rate": -1e-3}, "learning_rate: .* at least 0, got -0.001"),
    ({"weight_decay": -0.1}, "weight_decay: .* at least 0, got -0.1"),
    ({"clip_norm": 0.0}, "clip_norm: .* above 0, got 0.0"),
    ({"num_steps": 0}, "num_steps: .* at least 1, got 0"),
    ({"warmup_steps": -1}, "warmup_steps: .* at least 0, got -1"),
    ({"warmup_steps": 6}, "warmup_steps: .* at most num_steps=5, got 6"),
    ({"still_steps": 5}, "still_steps: .* less than num_steps=5 less warm.*, got 5"),
    ({"still_steps": -1}, "still_steps: .* at least 0, got -1"),
    ({"final_learning_rate": 2e-2}, r"final_l.*: .* in \[0, 0.01\], got 0.02"),
    ({"final_learning_rate": -1e-9}, r"final_l.*: .* in \[0, 0.01\], got -1e-09"),
  ],
)
def test_wrong_settings_are_errors(changes, message):
  with pytest.raises(ConfigError, match=message):
    config(**changes)


@pytest.mark.parametrize(
  "changes",
  [
    {"learning_rate": 0.0},
    {"warmup_steps": 5},
    {"final_learning_rate": 1e-2},
    {"final_learning_rate": 0.0},
  ],
)
def test_the_limits_themselves_are_allowed(changes):
  config(**changes)


@pytest.mark.parametrize("decay", ["linear", "1-sqrt"])
def test_a_decay_may_begin_at_a_step_that_was_not_known_before(decay):
  """Then each update is the undecayed one times the rate's share of its peak."""
  how = {"learning_rate": 0.1, "final_learning_rate": 0.02, "num_steps": 20}
  how |= {"decay_steps": 4, "decay": decay, "clip_norm": None, "name": "sgd"}
  optimizer = make_optimizer(OptimizerConfig(**how, decay_on_recovery=True))
  grads, params = {"w": jnp.ones(2)}, {"w": jnp.zeros(2)}
  state, sizes = optimizer.init(params), []
  assert decay_begin(state) == 16
  for step in range(9):
    if step == 3:
      state = begin_decay(state, step)
    updates, state = jax.jit(optimizer.update)(grads, state, params)
    sizes.append(-float(updates["w"][0]))
  momentum = [sum(0.9**k for k in range(s + 1)) for s in range(9)]
  q = np.clip((np.arange(9) - 3) / 4, 0, 1)
  left = 1 - (np.sqrt(q) if decay == "1-sqrt" else q)
  rates = 0.02 + (0.1 - 0.02) * left
  np.testing.assert_allclose(sizes, rates * momentum, rtol=1e-5)


def test_other_optimizers_have_no_such_decay():
  plain = make_optimizer(config()).init({"w": jnp.zeros(2)})
  assert decay_begin(plain) is None
  with pytest.raises(ConfigError, match="decay_steps: expected an integer"):
    config(decay_on_recovery=True)


def way(**changes):
  """Return the weights from 1 on after each of seven updates."""
  how = {"learning_rate": 0.1, "num_steps": 7, "name": "sgd", "clip_norm": None}
  optimizer = make_optimizer(OptimizerConfig(**how | changes))
  params, points = {"w": jnp.ones(3)}, []
  state = optimizer.init(params)
  update = jax.jit(optimizer.update)
  for step in range(7):
    grads = {"w": jnp.asarray([1.0, -2.0, 0.5]) * (step + 1) * params["w"]}
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    points.append(np.asarray(params["w"]))
  return points


@pytest.mark.parametrize("displacement", [-1.5, 0.0, 0.3])
def test_the_last_update_ends_on_the_line_from_the_start(displacement):
  expected, got = way(), way(displacement=displacement)
  np.testing.assert_array_equal(got[:-1], expected[:-1])
  end = 1 + displacement * (np.float64(expected[-1]) - 1)
  np.testing.assert_allclose(got[-1], end, rtol=1e-5)
  # Of a mean it is the mean that is displaced.
  mean = way(average_begin=3)[-1]
  both = way(average_begin=3, displacement=displacement)[-1]
  np.testing.assert_allclose(
    both, 1 + displacement * (np.float64(mean) - 1), rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize(("begin", "every"), [(3, 2), (1, 1), (7, 5)])
def test_the_last_update_ends_at_the_mean_of_the_weights(begin, every):
  expected, got = way(), way(average_begin=begin, average_every=every)
  np.testing.assert_array_equal(got[:-1], expected[:-1])
  chosen = [
    w for s, w in enumerate(expected, 1) if s >= begin and not (s - begin) % every
  ]
  np.testing.assert_allclose(got[-1], np.mean(np.float64(chosen), axis=0), rtol=1e-5)


def test_a_mask_in_the_state_leaves_all_other_weights_where_they_are():
  """They are neither decayed nor do their gradients use up the norm."""
  how = {"clip_norm": 1.0, "weight_decay": 0.3, "name": "sgd"}
  settings = config(**how)
  mask = jnp.asarray([True, False, True])
  optimizer = make_optimizer(settings, is_masked=True)
  params, grads = (
    {"w": jnp.asarray([1.0, 2.0, 3.0])},
    {"w": jnp.asarray([3.0, 9.0, 4.0])},
  )
  state = optimizer.init(params)._replace(mask={"w": mask})
  updates, _ = jax.jit(optimizer.update)(grads, state, params)
  # Clipped from (3, 4) to length 1.
  expected = -1e-2 * (np.array([0.6, 0.0, 0.8]) + 0.3 * np.array([1.0, 0.0, 3.0]))
  np.testing.assert_allclose(updates["w"], expected, rtol=1e-6)
  plain, _ = optimizer.update(grads, optimizer.init(params), params)
  assert np.all(np.asarray(plain["w"]) != 0)  # All, until it is set.
