"""Cross-entropy against float64 numpy, and sums under a mask."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.toy import MASK, TARGETS, draw_logits, np_cross_entropy
from undo_jax.objectives.cross_entropy import cross_entropy, masked_sum


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_cross_entropy_is_its_formula(scale):
  logits = np.float32(draw_logits(0, scale))
  got = cross_entropy(logits, jnp.asarray(TARGETS), jnp.asarray(MASK))
  expected = np_cross_entropy(logits, TARGETS, MASK)
  np.testing.assert_allclose(got.mean(), expected, rtol=1e-6)
  assert got.count == MASK.sum()


def test_low_precision_logits_are_summed_in_float32():
  logits = jnp.asarray(draw_logits(0), jnp.bfloat16)
  rounded = np.asarray(logits.astype(jnp.float32))
  got = cross_entropy(logits, jnp.asarray(TARGETS), jnp.asarray(MASK))
  np.testing.assert_allclose(
    got.mean(), np_cross_entropy(rounded, TARGETS, MASK), rtol=1e-6
  )


def test_an_infinite_value_under_the_mask_stays_out():
  values = jnp.array([[1.0, jnp.inf], [jnp.nan, 2.0]])
  got = masked_sum(values, jnp.array([[1, 0], [0, 1]]))
  assert (got.sum, got.count) == (3.0, 2.0)
