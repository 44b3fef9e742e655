"""TAR: an adversary that moves, and the gradient along its way."""

import functools

import jax
import numpy as np
import pytest

from tests.objectives.formulas import mean, probabilities
from tests.objectives.toy import (
  FROZEN,
  KEY,
  V,
  apply,
  batch_of,
  draw_params,
  numpy_apply,
  numpy_gradient,
  run,
  surprise,
)
from undo_jax import objectives, testing
from undo_jax.objectives import tamper_resistance
from undo_jax.utils.records import FieldError

NAME = "tamper_resistance"
BATCH = batch_of(NAME)


def numpy_attack(params, part, rate, steps):
  """Yield the weights after each step of Adam."""
  params = {k: np.float64(v) for k, v in params.items()}
  m, v = dict.fromkeys(params, 0.0), dict.fromkeys(params, 0.0)
  for s in range(1, steps + 1):
    for name, g in numpy_gradient(params, part, surprise).items():
      m[name] = 0.9 * m[name] + 0.1 * g
      v[name] = 0.999 * v[name] + 0.001 * g * g
      direction = m[name] / (1 - 0.9**s) / (np.sqrt(v[name] / (1 - 0.999**s)) + 1e-8)
      params[name] = params[name] - rate * direction
    yield {k: x.copy() for k, x in params.items()}


def test_it_sums_the_negative_entropy_along_an_adversarys_steps():
  params, forget = draw_params(1), jax.device_get(BATCH["forget"])
  metrics = run(
    NAME, params, BATCH, adversary_rates=(0.05,), adversary_steps=2, every=1
  )[2]
  total = 0.0
  for k, weights in enumerate(numpy_attack(params, BATCH["adversary"], 0.05, 2), 1):
    p = probabilities(numpy_apply(weights, forget["inputs"])[0])
    negative = mean(forget, lambda b, t, p=p: (p[b, t] * np.log(p[b, t])).sum())
    total += np.exp(0.1 * (k - 2)) * negative
  np.testing.assert_allclose(
    metrics["forget_negative_entropy"].mean(), total, rtol=1e-4
  )


@functools.cache
def value_and_gradient(exact, rate):
  options = {"adversary_steps": 2, "every": 1, "adversary_rates": (rate,)}
  options["adversary_optimizer"] = "sgd"
  fn = objectives.make(NAME, apply, retain_weight=0.0, exact=exact, **options)
  return jax.jit(jax.value_and_grad(lambda p: fn(p, FROZEN, BATCH, KEY)[0].mean()))


def along(grads, direction):
  return sum(float(np.sum(np.asarray(grads[k]) * direction[k])) for k in direction)


def test_exact_is_the_derivative_of_the_value_and_first_order_tends_to_it():
  params = draw_params(1)
  rng = np.random.default_rng(0)
  direction = {k: np.float32(rng.standard_normal(v.shape)) for k, v in params.items()}

  def at(step, rate):
    moved = {k: v + step * direction[k] for k, v in params.items()}
    return float(value_and_gradient(True, rate)(moved)[0])

  slopes = {
    (exact, rate): along(value_and_gradient(exact, rate)(params)[1], direction)
    for exact in (True, False)
    for rate in (2.0, 1e-5)
  }
  difference = (at(5e-3, 2.0) - at(-5e-3, 2.0)) / 1e-2
  size = abs(difference)
  assert abs(slopes[True, 2.0] - difference) < 0.03 * size
  assert abs(slopes[False, 2.0] - difference) > 0.1 * size
  np.testing.assert_allclose(slopes[False, 1e-5], slopes[True, 1e-5], rtol=1e-2)


def test_uniform_predictions_have_the_least_negative_entropy():
  logits, mask = np.zeros((2, 3, V), np.float32), np.ones((2, 3), np.float32)
  got = tamper_resistance.negative_entropy(logits, mask).mean()
  np.testing.assert_allclose(got, -np.log(V), rtol=1e-6)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"adversary_steps": 6}, "adversary_steps: expected a multiple of every=4, got 6"),
    ({"adversary_rates": ()}, "adversary_rates: expected at least one number"),
    ({"exact": True}, "adversary_optimizer: expected sgd, with exact, got 'adamw'"),
    (
      {"exact": True, "adversary_optimizer": "sgd"},
      "exact: expected False, with model.logits_chunk",
    ),
  ],
)
def test_options_that_cannot_work(options, message):
  with pytest.raises(FieldError, match=message):
    tamper_resistance.check(testing.config(logits_chunk=4), options, is_random=False)
