"""NPO: the weight of its gradient, and gradient ascent as its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.toy import (
  FROZEN,
  MASK,
  TARGETS,
  B,
  assert_trees_close,
  batch_of,
  draw_logits,
  draw_params,
  log_softmax,
  run,
)
from undo_jax.objectives.cross_entropy import row_nll
from undo_jax.objectives.npo import preference_loss


def of_rows(logits):
  """Return the negative log-likelihoods of rows in float64."""
  log_p = log_softmax(np.float64(logits))
  chosen = np.take_along_axis(log_p, TARGETS[..., None], -1)[..., 0]
  return -(chosen * MASK).sum(1)


def test_the_likelihood_of_rows():
  logits = np.float32(draw_logits(0))
  np.testing.assert_allclose(
    row_nll(logits, TARGETS, MASK), of_rows(logits), rtol=1e-6, atol=1e-6
  )


@pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])
def test_the_gradient_is_ascent_times_a_weight_between_0_and_2(beta):
  mine, other = (np.float32(draw_logits(seed, 1.0)) for seed in (0, 1))
  reference = np.float32(of_rows(other))

  def loss(logits):
    nll = row_nll(logits, TARGETS, MASK)
    return preference_loss(nll, reference, MASK, beta).sum

  # In likelihoods p and p_ref: w = 2 p^beta / (p^beta + p_ref^beta).
  likelihoods = [np.exp(-of_rows(x)) ** beta for x in (mine, other)]
  weights = 2 * likelihoods[0] / sum(likelihoods)
  weights *= MASK.any(1)
  assert weights.max() < 2
  p = np.exp(log_softmax(np.float64(mine)))
  ascent = np.eye(p.shape[-1])[TARGETS] - p
  expected = weights[:, None, None] * MASK[..., None] * ascent
  np.testing.assert_allclose(jax.grad(loss)(mine), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("beta", "start"), [(0.1, True), (3.0, True), (1e-4, False)])
def test_the_first_update_and_small_beta_are_ascent(beta, start):
  params, batch = draw_params(1), batch_of("npo")
  frozen = FROZEN | ({"reference": params} if start else {})
  options = {"retain_weight": 0.0, "beta": beta}
  grads = run("npo", params, batch, frozen=frozen, **options)[1]
  lost = run("grad_diff", params, batch, retain_weight=0.0)[1]
  mask = np.asarray(batch["forget"]["mask"])
  # A mean over rows for a mean over tokens.
  scale = mask.sum() / (mask.any(1)).sum()
  expected = jax.tree.map(lambda leaf: scale * leaf, lost)
  assert_trees_close(grads, expected, 1e-5 if start else 2e-3)


def test_a_row_that_is_unlikely_already_moves_nothing():
  reference = jnp.zeros(B)

  def loss(nll):
    return preference_loss(nll, reference, MASK, 0.5).sum

  weight = jax.grad(loss)(jnp.full(B, 200.0))
  assert np.abs(weight).max() < 1e-30
