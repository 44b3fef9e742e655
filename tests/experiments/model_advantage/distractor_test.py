"""The toy: true values by sums over time, and what each loss leaves out."""

import numpy as np
import pytest

from experiments.model_advantage import distractor

STATES = distractor.draw(np.random.default_rng(0), 64)


def test_the_circle_is_kept_and_values_are_sums_over_time():
  after, total = STATES, 0.0
  np.testing.assert_allclose(np.linalg.norm(after[:, 1:], axis=1), 5.0)
  for time in range(300):
    total = total - distractor.DISCOUNT**time * after[:, 0] ** 2
    after = distractor.step(after)
  np.testing.assert_allclose(distractor.value(STATES), total, rtol=1e-9)
  np.testing.assert_allclose(np.linalg.norm(after[:, 1:], axis=1), 5.0)


def test_a_model_of_x_alone_has_no_value_error_and_the_wrong_sign_has_none_either():
  for sign in (1.0, -1.0):  # The reward is even in x.
    model = np.array([[0.95, 0.0, 0.0], [sign, 0.0, 0.0]])
    assert distractor.loss("l1", model, STATES) == pytest.approx(0.0, abs=1e-12)
    assert distractor.loss("mle", model, STATES) > 20.0  # 25 of the circle.
    got = distractor.judge(model, STATES)
    assert got.return_error == pytest.approx(0.0, abs=1e-12)
    assert got.bound == pytest.approx(0.0, abs=1e-12)


def test_the_likelihood_fits_the_distractor_and_the_value_aware_loss_x():
  mle, l1 = (
    distractor.judge(distractor.fit(kind, np.random.default_rng(1), 64), STATES)
    for kind in ("mle", "l1")
  )
  assert mle.squared_error < l1.squared_error
  assert abs(l1.return_error) < 1e-3 < 1.0 < abs(mle.return_error)
  for each in (mle, l1):
    assert abs(each.return_error) <= each.bound * (1 + 1e-6) + 1e-6
