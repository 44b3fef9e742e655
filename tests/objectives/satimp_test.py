"""SatImp: its weights."""

import jax
import numpy as np
import pytest

from tests.objectives.toy import assert_trees_close, batch_of, draw_params, run
from undo_jax.objectives.satimp import weighted_likelihood


def test_without_importance_it_is_wga():
  params, batch = draw_params(1), batch_of("satimp")
  mine = run("satimp", params, batch, saturation=0.7, importance=0.0)
  wga = run("wga", params, batch, exponent=0.7)
  np.testing.assert_allclose(mine[0], wga[0], rtol=1e-6)
  assert_trees_close(mine[1], wga[1], 1e-6)


@pytest.mark.parametrize(("saturation", "importance"), [(5.0, 1.0), (1.0, 2.0)])
def test_the_weight_of_a_token_is_largest_where_the_exponents_meet(
  saturation, importance
):
  p = np.linspace(0.01, 0.99, 99)
  # Two tokens: the gradient of the first logit is the weight times 1 - p.
  logits = np.float32(np.log(np.stack([p, 1 - p], -1)))[:, None]
  targets, mask = np.zeros((99, 1), np.int32), np.ones((99, 1), np.float32)
  loss = weighted_likelihood(saturation, importance)
  grad = jax.grad(lambda x: loss(x, targets, mask).sum)(logits)[:, 0, 0]
  weight = np.asarray(grad) / (1 - p)
  np.testing.assert_allclose(weight, p**saturation * (1 - p) ** importance, rtol=2e-4)
  assert p[weight.argmax()] == pytest.approx(
    saturation / (saturation + importance), abs=0.01
  )
