"""Sums of the series: mean and variance in closed form."""

import numpy as np

from experiments.vervaat import series


def test_mean_and_variance_are_beta_and_half_of_it():
  beta, count = 1.5, 20_000
  values = series.sample(np.random.default_rng(0), beta, count)
  off = values - beta
  assert abs(off.mean()) < 4 * off.std() / count**0.5
  assert abs(np.mean(off**2) - beta / 2) < 4 * (off**2).std() / count**0.5
