"""UNDIAL: its target, and what its penalty tends to."""

import jax
import numpy as np

from tests.objectives.toy import MASK, TARGETS, V, draw_logits, log_softmax
from undo_jax.objectives.ce_u import without_target
from undo_jax.objectives.undial import lowered_target


def gradient(logits, teacher, penalty):
  def loss(x):
    return lowered_target(penalty)(x, teacher, TARGETS, MASK).sum

  return np.asarray(jax.grad(loss)(logits))


def test_the_gradient_is_prediction_less_lowered_teacher():
  logits, teacher = (np.float32(draw_logits(seed)) for seed in (0, 1))
  p, q = (np.exp(log_softmax(np.float64(x))) for x in (logits, teacher))
  target = np.eye(V)[TARGETS]
  mass = (q * target).sum(-1, keepdims=True)
  left = np.exp(-3.0)
  lowered = np.where(target, left * q, q) / (1 - mass + left * mass)
  expected = MASK[..., None] * (p - lowered)
  np.testing.assert_allclose(gradient(logits, teacher, 3.0), expected, atol=2e-6)


def test_without_a_penalty_the_teacher_stays_where_it_is():
  teacher = np.float32(draw_logits(1))
  assert np.abs(gradient(teacher, teacher, 0.0)).max() < 1e-6


def test_an_infinite_penalty_at_the_teacher_is_ce_u():
  teacher = np.float32(draw_logits(1))
  expected = jax.grad(lambda x: without_target(x, TARGETS, MASK).sum)(teacher)
  np.testing.assert_allclose(
    gradient(teacher, teacher, np.inf), expected, rtol=0, atol=1e-6
  )
