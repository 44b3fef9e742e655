"""Draws against cumulants in closed form, the solved distribution, and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.vervaat import distribution, sampler
from undo_jax.utils.errors import ConfigError

DRAWS = {0.1: 8_000, 0.25: 8_000, 1.0: 8_000, 4.0: 4_000, 16.0: 1_000}


@functools.cache
def drawn(beta):
  key = jax.random.key(int(100 * beta))
  return sampler.draw(key, np.full(DRAWS[beta], beta))


@pytest.mark.parametrize("beta", DRAWS)
def test_the_kth_cumulant_is_beta_over_k(beta):
  values = drawn(beta).values_N
  off, count = values - values.mean(), len(values)
  variance = np.mean(off**2)
  influences = (off, off**2, off**3 - 3 * variance * off)
  moments = (values.mean(), variance, np.mean(off**3))
  for order, (value, influence) in enumerate(zip(moments, influences, strict=True), 1):
    error = influence.std() / count**0.5
    assert abs(value - beta / order) < 4 * error


@pytest.mark.parametrize("beta", DRAWS)
def test_draws_have_the_solved_distribution(beta):
  law = distribution.solve(beta)
  assert stats.kstest(drawn(beta).values_N, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("beta", DRAWS)
def test_the_upper_bound_is_never_above_the_dominating_chain(beta):
  assert drawn(beta).violations_N.sum() == 0


def test_sums_have_the_distribution_of_the_sum_of_betas():
  total = drawn(0.25).values_N + drawn(1.0).values_N
  other = total[:4_000] + drawn(4.0).values_N
  assert stats.kstest(total, distribution.solve(1.25).cdf).pvalue > 1e-3
  assert stats.kstest(other, distribution.solve(5.25).cdf).pvalue > 1e-3


def test_time_grows_as_beta_ln_beta():
  ratios = [
    drawn(beta).uniforms_N.mean() / (beta * np.log(beta + 2)) for beta in (1, 4, 16)
  ]
  assert max(ratios) / min(ratios) < 2  # The earlier bound grows by 10^23.


def test_a_step_keeps_the_order_and_the_law():
  """Given that D does not go up, y' / (r (1 + y)) is the root of a uniform."""
  beta, count = 0.7, 20_000
  rng = np.random.default_rng(0)
  root = (2 / 3) ** (1 / beta)
  with jax.enable_x64(True):
    move = sampler.Move(
      jnp.zeros(count, bool),
      jnp.asarray(root * rng.random(count) ** (1 / beta)),
      jnp.asarray(rng.random(count) ** (1 / beta)),
      jnp.asarray(root),
    )
    got = sampler.exact(jnp.full(count, 0.4), (jnp.full(count, 2.0), 1.1), move)
  lower, upper, value = np.asarray(got[0]), *map(np.asarray, got[1])
  assert (lower <= value).all() and (value <= upper).all()
  for before, after in ((0.4, lower), (2.0, upper), (1.1, value)):
    uniform = (after / (root * (1 + before))) ** beta
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
  # They meet where the highest does.
  assert np.array_equal(lower == upper, upper < root * 1.4)
  assert 0.3 < np.mean(lower == upper) < 0.9


def test_calls_are_as_those_of_jax_random():
  key, betas = jax.random.key(0), np.array([[0.5], [2.0]])
  one = sampler.sample(key, 1.5, (3, 2))
  assert one.shape == (3, 2) and one.dtype == jnp.float32
  assert sampler.sample(key, 1.5).shape == ()
  assert sampler.sample(key, betas).shape == (2, 1)
  many = sampler.sample(key, betas, (2, 500))
  assert many[0].mean() < 1 < many[1].mean()
  np.testing.assert_array_equal(one, sampler.sample(key, 1.5, (3, 2)))
  assert not np.array_equal(one, sampler.sample(jax.random.key(1), 1.5, (3, 2)))
  assert sampler.sample(key, 1.5, (3,), jnp.float16).dtype == jnp.float16
  assert sampler.sample(key, 1.5, (0, 3)).shape == (0, 3)


def test_the_flag_for_float64_stays_as_it_is():
  before = jax.config.jax_enable_x64
  sampler.sample(jax.random.key(0), 1.0, (4,))
  assert jax.config.jax_enable_x64 == before and jnp.ones(1).dtype == jnp.float32
  with jax.enable_x64(True):
    one = sampler.sample(jax.random.key(0), 1.0, (4,))
  assert one.dtype == jnp.float64


def test_more_blocks_do_not_change_a_draw():
  """What has met has forgotten the past: here drawn with twice the blocks."""
  keys, betas = jax.random.split(jax.random.key(2), 64), np.full(64, 1.0)
  with jax.enable_x64(True):
    few, many = (
      [np.asarray(x) for x in sampler._windows(keys, betas, sampler.exact, levels)]
      for levels in (4, 7)
    )
  met = few[1] >= 0
  assert 32 < met.sum() and (many[1] >= 0).all()
  for one, other in zip(few, many, strict=True):
    np.testing.assert_array_equal(one[met], other[met])


@pytest.mark.parametrize(
  "beta, shape, words",
  [
    (0.0, None, r"beta: expected numbers in \[0.01, 1000\], got 0.0"),
    (-1.0, None, "expected numbers"),
    (float("nan"), None, "expected numbers"),
    (2e3, None, "expected numbers"),
    ([1.0, 2.0], (3,), r"cannot be broadcast to shape \(3,\)"),
  ],
)
def test_betas_out_of_range_end_in_one_line(beta, shape, words):
  with pytest.raises(ConfigError, match=words) as raised:
    sampler.sample(jax.random.key(0), beta, shape)
  assert "\n" not in str(raised.value)


def test_a_traced_beta_ends_in_one_line():
  with pytest.raises(ConfigError, match="outside of jit"):
    jax.jit(lambda beta: sampler.sample(jax.random.key(0), beta))(1.0)
