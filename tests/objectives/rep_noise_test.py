"""The maximum mean discrepancy, and what the objective makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.toy import (
  FROZEN,
  batch_of,
  draw_params,
  make,
  np_objective,
  np_rep_noise,
)
from undo_jax.objectives import rep_noise

KEY = jax.random.key(0)
mmd = jax.jit(rep_noise.mmd)
noise_distance = jax.jit(rep_noise.noise_distance)


def draw(seed: int, rows: int = 5, width: int = 7, shift: float = 0.0):
  return np.float32(shift + np.random.default_rng(seed).standard_normal((rows, width)))


def by_loops(x, y):
  """The definition in float64, one pair of rows after the other."""
  z = [np.float64(row) for row in [*x, *y]]
  n = len(z)
  distance = [[((a - b) ** 2).sum() for b in z] for a in z]
  width = np.sum(distance) / (n * n - n)

  def kernel(i, j):
    return sum(np.exp(-distance[i][j] / (width * s)) for s in (0.25, 0.5, 1, 2, 4))

  total, k = 0.0, len(x)
  for i in range(k):
    for j in range(k):
      total += kernel(i, j) + kernel(k + i, k + j)
      total -= kernel(i, k + j) + kernel(k + i, j)
  return total / k**2


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_mmd_is_its_formula(rows, scale, offset):
  # Far from the origin too, where distances are small differences of large products.
  x = np.float32(scale) * draw(0, rows, shift=offset)
  y = np.float32(scale) * draw(1, rows, shift=offset + 0.5)
  np.testing.assert_allclose(mmd(x, y), by_loops(x, y), rtol=1e-6)


def test_mmd_is_zero_for_equal_samples_symmetric_and_positive_otherwise():
  x, y = draw(0), draw(1, shift=2.0)
  assert abs(mmd(x, x)) < 1e-6
  assert abs(mmd(x, x[::-1])) < 1e-6
  np.testing.assert_allclose(mmd(x, y), mmd(y, x), rtol=1e-6)
  assert mmd(x, y) > 0.5


def test_mmd_of_constant_rows_is_zero_with_a_zero_gradient():
  zeros = jnp.zeros((3, 4))
  value, grad = jax.jit(jax.value_and_grad(mmd))(zeros, zeros)
  assert value == 0 and not np.any(grad)


def test_the_width_takes_no_part_in_the_gradient():
  # The discrepancy does not change with the scale of all rows, but at a fixed width.
  x, y = draw(0), draw(1, shift=1.0)
  slope = jax.jit(jax.grad(lambda s: mmd(s * x, s * y)))(1.0)

  def fixed(scale):
    z = np.float64(np.concatenate([x, y]))
    d = ((z[:, None] - z[None]) ** 2).sum(-1)
    width = d.sum() / 90
    k = sum(np.exp(-(scale**2) * d / (width * s)) for s in (0.25, 0.5, 1, 2, 4))
    return (k[:5, :5] + k[5:, 5:] - 2 * k[:5, 5:]).mean()

  expected = (fixed(1 + 1e-5) - fixed(1 - 1e-5)) / 2e-5
  np.testing.assert_allclose(slope, expected, rtol=1e-4)
  assert abs(expected) > 0.1


def test_noise_is_nearer_than_anything_else():
  mask, noise = jnp.ones((64, 2)), draw(0, 64, 6).reshape(1, 64, 2, 3)
  near = noise_distance(noise, mask, KEY).mean()
  for other in (noise + 1.0, 0.2 * noise, 5 * noise):
    assert noise_distance(other, mask, KEY).mean() > 3 * near


def test_layers_and_keys_draw_different_noise():
  mask, outputs = (
    jnp.ones((64, 2)),
    np.tile(draw(0, 64, 6).reshape(64, 2, 3), (2, 1, 1, 1)),
  )
  zero = np.zeros_like(outputs)
  values = [
    noise_distance(np.stack(layers), mask, key).mean()
    for layers in ((outputs[0], zero[0]), (zero[0], outputs[0]))
    for key in (KEY, jax.random.key(1))
  ]
  assert len({float(value) for value in values}) == 4


def test_rep_noise_averages_its_statistics_over_microbatches():
  name, A = "max_ent_rep_noise", 2
  params, batch = draw_params(1), batch_of(name)
  whole = np_objective(name, params, FROZEN, batch)
  objective, parts, noise, ascent = jax.jit(make(name)), [], [], []
  for a in range(A):
    rows = jax.tree.map(lambda x, a=a: x[a::A], batch)
    key = jax.random.fold_in(KEY, a)
    terms = np_rep_noise(params, rows, key, params)
    noise.append(terms[1])
    ascent.append(terms[2])
    parts.append(objective(params, FROZEN, rows, key))
  loss, metrics = jax.tree.map(jnp.add, *parts)
  expected = whole[0] + whole[1] + whole[4]
  expected += 0.9 * (0.7 * np.mean(noise) - 2.0 * np.mean(ascent))
  np.testing.assert_allclose(loss.mean(), expected, rtol=2e-6)
  got = metrics["forget_noise_distance"].mean(), metrics["forget_log_loss"].mean()
  np.testing.assert_allclose(got, [np.mean(noise), np.mean(ascent)], rtol=2e-6)


def test_rep_noise_may_mask_what_both_rows_share():
  name = "max_ent_rep_noise"
  params, batch = draw_params(1), batch_of(name)
  # Rows of the same first tokens, as answers to one prompt.
  for side, count in (("inputs", 3), ("targets", 2)):
    shared = batch["retain"][side][:, :count]
    batch["forget"][side] = batch["forget"][side].at[:, :count].set(shared)
  loss, _ = jax.jit(make(name, only_differing=True))(params, FROZEN, batch, KEY)
  terms = np_objective(name, params, FROZEN, batch)
  harmless, noise, ascent = np_rep_noise(
    params, batch, KEY, params, only_differing=True
  )
  expected = terms[0] + terms[4] + 0.9 * (harmless + 0.7 * noise - 2.0 * ascent)
  np.testing.assert_allclose(loss.mean(), expected, rtol=2e-6)
  assert abs(loss.mean() - sum(terms)) > 1e-2
