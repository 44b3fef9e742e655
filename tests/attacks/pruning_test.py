"""Pruning against sorting in NumPy, counted exactly, layer by layer."""

import numpy as np
import pytest

from tests.attacks.edited import PARAMS, assert_others_stay, edited, matrices, pairs
from tests.attacks.tiny import equal
from undo_jax.attacks import pruning

KERNELS = ("kernel",)


def smallest(flat, count):
  """Return where so many of the smallest magnitudes are."""
  return np.argsort(np.abs(flat), kind="stable")[:count]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_each_matrix_of_each_layer_loses_its_smallest_weights(share):
  pruned = edited("pruning", share)
  for path, before, after in pairs(pruned, KERNELS):
    expected = before.ravel().copy()
    expected[smallest(expected, round(share * expected.size))] = 0
    np.testing.assert_array_equal(after.ravel(), expected, path)
    assert np.count_nonzero(after) == before.size - round(share * before.size)
  assert_others_stay(pruned, KERNELS)


def test_all_matrices_together_lose_the_smallest_of_all():
  share = 0.3
  pruned = edited("pruning", share, {"scope": "all"})
  before, after = (
    np.concatenate([m.ravel() for _, m in matrices(tree, KERNELS)])
    for tree in (PARAMS, pruned)
  )
  expected = before.copy()
  expected[smallest(before, round(share * before.size))] = 0
  np.testing.assert_array_equal(after, expected)
  shares = [np.mean(m == 0) for _, m in matrices(pruned, KERNELS)]
  assert len({*shares}) > 2  # Not the same of each.
  assert_others_stay(pruned, KERNELS)


def test_nothing_is_pruned_at_a_share_of_zero():
  for scope in ("matrix", "all"):
    equal(edited("pruning", 0.0, {"scope": scope}), PARAMS)


def test_of_equal_weights_the_first_are_pruned_and_the_count_is_exact():
  weights = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 2.0]], np.float32)
  pruned = pruning.without_smallest(weights, 0.5)
  np.testing.assert_array_equal(pruned, [[0, 0, 0], [-1, 1, 2]])
