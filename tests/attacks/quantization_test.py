"""Rounding to few bits against NumPy in float64, and what holds of it."""

import numpy as np
import pytest

from tests.attacks.edited import PARAMS, assert_others_stay, edited, pairs
from tests.attacks.tiny import equal
from undo_jax.attacks.quantization import round_to_nearest

KERNELS = ("kernel",)
MATRIX = np.random.default_rng(0).standard_normal((24, 7)).astype(np.float32)


def scales(matrix, bits, size=None):
  """Return the scale of every weight: of its group of an output channel."""
  groups = np.abs(matrix).reshape(-1, size or len(matrix), matrix.shape[1])
  top = groups.max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
  return np.broadcast_to(top, groups.shape).reshape(matrix.shape)


@pytest.mark.parametrize(("bits", "size"), [(8, None), (4, 8), (3, None), (2, 4)])
def test_each_layer_is_rounded_to_the_multiples_of_its_scales(bits, size):
  rounded = edited("quantization", float(bits), {"group_size": size})
  for path, before, after in pairs(rounded, KERNELS):
    s = scales(before, bits, size)
    np.testing.assert_allclose(after, s * np.round(before / s), atol=1e-5, err_msg=path)
    assert np.all(np.abs(before - after) <= s / 2 * (1 + 1e-5)), path
    groups = after.reshape(-1, size or len(after), after.shape[1])
    for group in np.moveaxis(groups, 2, 1).reshape(-1, groups.shape[1]):
      assert len({*np.round(group, 5)}) < 2**bits
  assert_others_stay(rounded, KERNELS)


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_rounding_again_changes_nothing_and_scaling_goes_through(bits):
  once = round_to_nearest(MATRIX, bits, 8)
  np.testing.assert_allclose(round_to_nearest(once, bits, 8), once, rtol=1e-6)
  np.testing.assert_array_equal(round_to_nearest(-2 * MATRIX, bits, 8), -2 * once)
  for other in (3.7, 1e-6):
    scaled = round_to_nearest(np.float32(other) * MATRIX, bits, 8)
    np.testing.assert_allclose(scaled, other * np.asarray(once), rtol=1e-5)


def test_the_error_of_many_bits_is_that_of_a_uniform_rounding():
  matrix = np.random.default_rng(1).uniform(-1, 1, (20_000, 1)).astype(np.float32)
  error = np.asarray(round_to_nearest(matrix, 8)) - matrix
  expected = scales(matrix, 8)[0, 0] / 12**0.5
  assert np.sqrt(np.mean(error**2)) == pytest.approx(expected, rel=0.02)


def test_zeros_stay_zeros():
  equal(round_to_nearest(np.zeros((4, 2), np.float32), 4), np.zeros((4, 2)))
  assert all(
    np.isfinite(x).all() for _, _, x in pairs(edited("quantization", 2.0), KERNELS)
  )
  assert np.isfinite(PARAMS["embedding"]).all()
