"""The two defects of the published steps, by what is known of the law."""

import jax
import numpy as np

from experiments.vervaat import published, sampler


def drawn(update, beta, count):
  return sampler.draw(jax.random.key(3), np.full(count, beta), update)


def z_of_mean(draws, beta):
  values = draws.values_N
  return (values.mean() - beta) / (values.std() / len(values) ** 0.5)


def test_a_redraw_that_ignores_the_chain_is_biased_and_not_dominated():
  """Over a million draws the mean is some 15 standard errors below beta."""
  got = drawn(published.old_bound, 0.1, 60_000)
  assert z_of_mean(got, 0.1) < -2.5
  assert got.violations_N.sum() > 1000
  exact = drawn(sampler.exact, 0.1, 60_000)
  assert abs(z_of_mean(exact, 0.1)) < 4 and exact.violations_N.sum() == 0


def test_the_listings_comparison_is_more_biased_and_takes_longer():
  got = drawn(published.listing, 0.25, 60_000)
  assert z_of_mean(got, 0.25) < -4
  taken = [
    drawn(update, 4.0, 250).uniforms_N.mean()
    for update in (published.listing, published.old_bound)
  ]
  assert taken[0] > 1.8 * taken[1]
