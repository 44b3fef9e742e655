"""Tests of schedules and optimizers against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from undo_jax.training.optimizers import (
  OptimizerConfig,
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
  for step in range(60):
    if step < warmup:
      expected = peak * step / warmup
    elif final is None or warmup == T:
      expected = peak
    else:
      progress = min(1.0, (step - warmup) / (T - warmup))  # Held after the end.
      expected = final + (peak - final) * (1 + np.cos(np.pi * progress)) / 2
    np.testing.assert_allclose(fn(step), expected, rtol=1e-6, atol=1e-6 * peak)


def draw(seed: int, scale: float = 1.0):
  rng = np.random.default_rng(seed)
  return {
    "matrix": scale * rng.standard_normal((3, 4)),
    "vector": scale * rng.standard_normal(5),
  }


def to_jax(tree):
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def adamw(params, grads_S, rates_S, *, clip=1.0, decay=0.0, masks=None):
  """Runs AdamW in float64: betas 0.9 and 0.999, eps 1e-8 outside the root."""
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
  state = optimizer.init(params) if state is None else state

  @jax.jit
  def update(params, state, grads):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for grads in grads_S:
    params, state = update(params, state, to_jax(grads))
  return params


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


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("clip", [0.1, 1.0, 1e6])
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
  rules = (("matrix", 0, (0, 2), 1.0),)
  optimizer = make_optimizer(config(weight_decay=0.3, trainable=rules))
  masks = {"matrix": np.array([[1.0], [0.0], [1.0]]), "vector": 0.0}
  grads_S = [grads | {"vector": 100 * grads["vector"]} for grads in GRADS]
  got = run(optimizer, draw(0), grads_S)
  assert_close(got, adamw(draw(0), grads_S, [1e-2] * 5, decay=0.3, masks=masks))
  start = to_jax(draw(0))
  np.testing.assert_array_equal(got["vector"], start["vector"])
  np.testing.assert_array_equal(got["matrix"][1], start["matrix"][1])
  assert np.all(got["matrix"][0] != start["matrix"][0])


def test_a_trainable_rule_that_matches_nothing_is_an_error():
  optimizer = make_optimizer(config(trainable=(("bias", None, None, 1.0),)))
  params = to_jax(draw(0))
  with pytest.raises(ValueError, match="matches no parameter"):
    optimizer.update(params, optimizer.init(params), params)


@pytest.mark.parametrize("rate", [0.0, 1e-3, 5e-2])
def test_the_population_optimizer_takes_the_rate_from_its_state(rate):
  optimizer = make_population_optimizer(config(weight_decay=0.3))
  state = optimizer.init(to_jax(draw(0)))
  state = optax.tree.set(state, learning_rate=jnp.float32(rate))
  got = run(optimizer, draw(0), GRADS, state)
  assert_close(got, adamw(draw(0), GRADS, [rate] * 5, decay=0.3), rate)


def test_a_population_warms_up_from_zero():
  optimizer = make_population_optimizer(config(weight_decay=0.3, warmup_steps=2))
  state = optax.tree.set(optimizer.init(to_jax(draw(0))), learning_rate=1e-2)
  got = run(optimizer, draw(0), GRADS, state)
  rates = [0.0, 5e-3, 1e-2, 1e-2, 1e-2]
  assert_close(got, adamw(draw(0), GRADS, rates, decay=0.3))


def test_a_population_freezes_as_a_single_model_does():
  rules = trainable_rules([("matrix", [0, 2])])
  optimizer = make_population_optimizer(config(weight_decay=0.3, trainable=rules))
  grads_S = [grads | {"vector": 100 * grads["vector"]} for grads in GRADS]
  masks = {"matrix": np.array([[1.0], [0.0], [1.0]]), "vector": 0.0}
  got = run(optimizer, draw(0), grads_S)
  assert_close(got, adamw(draw(0), grads_S, [1e-2] * 5, decay=0.3, masks=masks))
  np.testing.assert_array_equal(got["vector"], to_jax(draw(0))["vector"])


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
    ({"learning_rate": -1e-3}, "learning_rate >= 0"),
    ({"weight_decay": -0.1}, "weight_decay >= 0"),
    ({"clip_norm": 0.0}, "clip_norm > 0"),
    ({"num_steps": 0}, "num_steps >= 1.*got num_steps=0"),
    ({"warmup_steps": -1}, r"warmup_steps in \[0, num_steps\].*warmup_steps=-1"),
    ({"warmup_steps": 6}, r"warmup_steps in \[0, num_steps\].*warmup_steps=6"),
    ({"final_learning_rate": 2e-2}, r"must lie in \[0, 0.01\], got 0.02"),
    ({"final_learning_rate": -1e-9}, r"must lie in \[0, 0.01\], got -1e-09"),
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
