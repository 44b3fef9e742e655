"""JensUn: a divergence that depends on one probability."""

import jax
import numpy as np
import pytest
import scipy.spatial.distance

from tests.objectives.toy import MASK, TARGETS, V, draw_logits, log_softmax
from undo_jax import testing
from undo_jax.objectives import jensun
from undo_jax.utils.records import FieldError


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_it_is_the_divergence_between_prediction_and_one_hot_target(scale):
  logits = np.float32(draw_logits(0, scale))
  got = jensun.divergence_from_target(logits, TARGETS, MASK)
  p = np.exp(log_softmax(np.float64(logits)))
  # scipy's distance is the root of the divergence.
  each = scipy.spatial.distance.jensenshannon(p, np.eye(V)[TARGETS], axis=-1) ** 2
  np.testing.assert_allclose(got.sum, (each * MASK).sum(), rtol=2e-6, atol=2e-6)
  assert 0 <= got.mean() <= np.log(2) + 1e-6


def test_its_gradient():
  logits = np.float32(draw_logits(0))

  def loss(x):
    return jensun.divergence_from_target(x, TARGETS, MASK).sum

  p = np.exp(log_softmax(np.float64(logits)))
  target = np.eye(V)[TARGETS]
  q = (p * target).sum(-1, keepdims=True)
  expected = 0.5 * np.log(q / (1 + q)) * q * (target - p) * MASK[..., None]
  np.testing.assert_allclose(jax.grad(loss)(logits), expected, rtol=0, atol=2e-6)


def test_the_answer_is_repeated_over_what_counts():
  mask = np.float32([[0, 1, 1, 0, 1, 1], [1, 0, 0, 0, 1, 0]])
  got = np.asarray(jensun.repeated((5, 8, 2), mask))
  np.testing.assert_array_equal(got[0][mask[0] > 0], [5, 8, 2, 5])
  np.testing.assert_array_equal(got[1][mask[1] > 0], [5, 8])


@pytest.mark.parametrize("answer", [(), (-1,), (16,)])
def test_an_answer_is_made_of_the_models_tokens(answer):
  model = testing.config(vocab_size=16)
  with pytest.raises(FieldError, match=r"answer: expected token ids in \[0, 16\)"):
    jensun.check(model, {"answer": answer}, is_random=False)
