"""IdkDPO: the rows that are preferred, and NPO where they add nothing."""

import numpy as np

from tests.objectives.toy import FROZEN, batch_of, draw_params, run
from undo_jax.objectives.idk_dpo import answered


def test_the_answer_stands_where_tokens_count_and_is_read_after_them():
  part = {
    "inputs": np.int32([[9, 3, 4, 5, 6]]),
    "targets": np.int32([[3, 4, 5, 6, 0]]),
    "mask": np.float32([[0, 1, 1, 1, 0]]),
  }
  got = answered(part, (7, 8))
  np.testing.assert_array_equal(got["targets"], [[3, 7, 8, 7, 0]])
  np.testing.assert_array_equal(got["inputs"], [[9, 3, 7, 8, 7]])
  np.testing.assert_array_equal(got["mask"], part["mask"])


def test_at_the_reference_it_pushes_as_npo_does_and_pulls_as_much():
  """There both ratios are 0 and the weight is 1: a difference of two likelihoods."""
  params, batch = draw_params(1), batch_of("idk_dpo")
  frozen = FROZEN | {"reference": params}
  options = {"retain_weight": 0.0, "beta": 0.3}
  grads = run("idk_dpo", params, batch, frozen=frozen, **options)[1]
  npo = run("npo", params, batch, frozen=frozen, **options)[1]
  preferred = batch | {"forget": answered(batch["forget"], (4, 1, 7))}
  other = run("npo", params, preferred, frozen=frozen, **options)[1]
  for name in params:
    expected = np.asarray(npo[name]) - np.asarray(other[name])
    scale = np.abs(expected).max()
    np.testing.assert_allclose(grads[name], expected, rtol=0, atol=1e-5 * scale)
