"""CE-U: a gradient that vanishes as the target does."""

import jax
import numpy as np

from tests.objectives.toy import MASK, TARGETS, V, draw_logits, log_softmax
from undo_jax.objectives.ce_u import without_target


def test_the_gradient_moves_the_targets_mass_to_the_others():
  logits = np.float32(draw_logits(0))
  got = np.asarray(jax.grad(lambda x: without_target(x, TARGETS, MASK).sum)(logits))
  p = np.exp(log_softmax(np.float64(logits)))
  target = np.eye(V)[TARGETS]
  mass = (p * target).sum(-1, keepdims=True)
  expected = MASK[..., None] * np.where(target, mass, -mass * p / (1 - mass))
  np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)
  np.testing.assert_allclose(
    np.abs(got).sum(-1), 2 * mass[..., 0] * MASK, rtol=0, atol=5e-6
  )


def test_it_is_least_where_the_target_has_no_mass():
  logits = np.float32(draw_logits(0))
  without = np.where(np.eye(V)[TARGETS], -200.0, logits)
  got = jax.grad(lambda x: without_target(x, TARGETS, MASK).sum)(np.float32(without))
  assert np.abs(got).max() < 1e-6
