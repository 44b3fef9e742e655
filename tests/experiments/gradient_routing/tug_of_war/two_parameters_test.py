"""The tug of war of two parameters, in closed form."""

import numpy as np

from experiments.gradient_routing.tug_of_war import two_parameters

RATE = 0.01


def test_without_coherence_the_two_pull_apart_forever():
  """T30: at sum s = 5/3 both losses pull, by 2(s - 2) and 2(s - 1) + 2(s - 2)."""
  theta = np.asarray(two_parameters.train(0.0, 3000, RATE))
  np.testing.assert_allclose(theta[-1000:].sum(1), 5 / 3, atol=1e-4)
  drift = (theta[-1] - theta[-1001]) / 1000
  np.testing.assert_allclose(drift, [2 / 3 * RATE, -2 / 3 * RATE], rtol=1e-3)


def test_with_coherence_they_come_to_rest():
  """T30: 2 s = 3 and (s - 2) + 0.2 (theta_0 - 2) = 0 give s = 1.5, theta_0 = 4.5."""
  end = np.asarray(two_parameters.train(0.2, 20_000, RATE))[-1]
  np.testing.assert_allclose(end, [4.5, -3.0], atol=1e-3)
