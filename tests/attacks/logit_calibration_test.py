"""Logit calibration against SciPy's convex fit, and one update against its formula."""

import jax
import numpy as np
import optax
import pytest
import scipy.optimize
import scipy.special

from tests.attacks.tiny import KEY, MODEL, draw_params
from undo_jax import attacks, testing
from undo_jax.attacks.logit_calibration import biased
from undo_jax.models.decoder import Decoder, Output
from undo_jax.objectives import cross_entropy
from undo_jax.objectives.chunked import Deferred
from undo_jax.training import state
from undo_jax.training.step import make_step, scan_steps

BATCH = jax.device_get(testing.batch(KEY, rows=16, length=12))
V, D = MODEL.vocab_size, 4
TABLE_VXD = np.random.default_rng(0).standard_normal((V, D)).astype(np.float32)
OUT_DXV = np.random.default_rng(1).standard_normal((D, V)).astype(np.float32)


def apply(params, tokens):
  return Output(params[tokens] @ OUT_DXV, {})


def deferring(params, tokens):
  logits = Deferred(params[tokens], OUT_DXV, lambda out, hidden: hidden @ out, 5)
  return Output(logits, {})  # type: ignore[arg-type]


def scored():
  """Return the logits [n, V] and targets [n] of what is scored, in float64."""
  kept = BATCH["mask"] > 0
  logits = np.float64(TABLE_VXD)[BATCH["inputs"]] @ OUT_DXV
  return logits[kept], BATCH["targets"][kept]


def loss(bias, logits, targets):
  """Return the mean cross-entropy and its gradient, mean p - mean one-hot."""
  p = scipy.special.softmax(logits + bias, axis=1)
  hot = np.eye(V)[targets]
  return -np.mean(np.log(np.sum(p * hot, axis=1))), np.mean(p - hot, axis=0)


def trained(optimizer, steps, apply=apply):
  """Return the biases and losses of updates on one batch."""
  objective = cross_entropy.make(biased(apply))

  def of_bias(trained, frozen, batch, key):
    return objective(trained | frozen, {}, batch, key)

  step = scan_steps(make_step(of_bias, optimizer))
  batches = jax.tree.map(lambda x: np.repeat(x[None], steps, axis=0), BATCH)
  start = state.create({"bias": np.zeros(V, np.float32)}, optimizer)
  final, metrics = jax.jit(step)(start, {"base": TABLE_VXD}, batches, KEY)
  return np.asarray(final.params["bias"], np.float64), metrics["loss"]


@pytest.mark.parametrize("apply", [apply, deferring])
def test_an_update_is_the_difference_of_the_marginals(apply):
  bias, losses = trained(optax.sgd(2.0), 1, apply)
  value, gradient = loss(np.zeros(V), *scored())
  np.testing.assert_allclose(losses, [value], rtol=1e-5)
  np.testing.assert_allclose(bias, -2.0 * gradient, atol=1e-5)


def test_the_fit_is_scipys_and_its_marginals_are_the_targets():
  fit = scipy.optimize.minimize(loss, np.zeros(V), scored(), jac=True)
  bias, _ = trained(optax.adam(optax.cosine_decay_schedule(0.1, 400)), 400)
  value, gradient = loss(bias, *scored())
  assert value == pytest.approx(fit.fun, abs=1e-4)
  assert fit.fun < loss(0, *scored())[0] - 0.01
  np.testing.assert_allclose(gradient, 0, atol=2e-3)


def test_scores_are_of_the_models_logits_and_the_biases():
  members, params = attacks.members_of(MODEL, "logit_calibration", {}), draw_params()
  np.testing.assert_array_equal(members.start(params, KEY)["bias"], np.zeros(V))
  bias = np.linspace(-1, 1, V, dtype=np.float32)
  tree = members.weights({"bias": bias}, {"base": params})
  places = np.array([[0, 3]] * 16)
  assert members.apply is not None

  @jax.jit
  def both(tree):
    how = {"positions_BxP": places}
    plain = Decoder(MODEL).apply(tree["base"], BATCH["inputs"], **how)
    return members.apply(tree, BATCH["inputs"], **how).logits, plain.logits

  calibrated, plain = both(tree)
  np.testing.assert_allclose(calibrated, plain + bias, atol=1e-6)
