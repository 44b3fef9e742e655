"""The schedule against its product and known values; moves against DDIM's formula."""

import math

import jax
import numpy as np
import pytest

from experiments.direct_inversion import schedule
from undo_jax.utils.errors import ConfigError

BARS = schedule.alpha_bars()


def test_signal_is_the_product_of_what_each_time_leaves():
  product = 1.0
  for time in range(1000):
    share = time / 999
    root = (1 - share) * math.sqrt(0.00085) + share * math.sqrt(0.012)
    product *= 1 - root**2
    assert BARS[time] == pytest.approx(product, rel=1e-12)
  # Stable Diffusion's, as published.
  assert BARS[0] == pytest.approx(0.999150, abs=5e-7)
  assert BARS[999] == pytest.approx(0.004660, abs=5e-7)


def test_times_are_multiples_of_the_stride_or_the_steps_are_refused():
  assert schedule.times(4).tolist() == [0, 250, 500, 750]
  assert len(schedule.times(1000)) == 1000
  for steps in (7, 0, 2000):
    with pytest.raises(ConfigError, match=f"divides 1000, got {steps}"):
      schedule.times(steps)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_move_is_the_step_of_ddim_in_float64(eta):
  rng = np.random.default_rng(0)
  x, noise = rng.standard_normal((2, 5, 3))
  now, after = BARS[600], BARS[580]
  # arXiv 2010.02502, equations 12 and 16.
  sigma = eta * math.sqrt((1 - after) / (1 - now)) * math.sqrt(1 - now / after)
  clean = (x - math.sqrt(1 - now) * noise) / math.sqrt(now)
  along = math.sqrt(1 - after - sigma**2) * noise
  with jax.enable_x64(True):
    got = schedule.sigma(eta, now, after)
    moved = schedule.move(x, noise, now, after, got)
  np.testing.assert_allclose(got, sigma, rtol=1e-12)
  np.testing.assert_allclose(moved, math.sqrt(after) * clean + along, rtol=1e-12)


def test_eta_of_one_is_the_posterior_of_ddpm():
  """Its variance is (1 - abar_(t-1)) / (1 - abar_t) beta_t, arXiv 2006.11239."""
  beta = 1 - BARS[500] / BARS[499]
  with jax.enable_x64(True):
    sigma = schedule.sigma(1.0, BARS[500], BARS[499])
  np.testing.assert_allclose(
    sigma**2, (1 - BARS[499]) / (1 - BARS[500]) * beta, rtol=1e-10
  )
