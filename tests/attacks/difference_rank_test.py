"""The low-rank part of the base against NumPy's singular values in float64."""

import numpy as np
import pytest

from tests.attacks.edited import BASE, MODEL, PARAMS, edited, matrices, others
from undo_jax.attacks.difference_rank import truncated

MATRICES = ("kernel", "embedding")


@pytest.mark.parametrize("rank", [1, 3])
def test_what_is_left_of_the_difference_are_the_other_singular_values(rank):
  edited_matrices = dict(matrices(edited("difference_rank", rank, base=BASE), MATRICES))
  before, base = (dict(matrices(tree, MATRICES)) for tree in (PARAMS, BASE))
  assert len(edited_matrices) == 1 + 7 * MODEL.num_layers
  for path, after in edited_matrices.items():
    values = np.linalg.svd(base[path] - before[path], compute_uv=False)
    left = np.linalg.norm(base[path] - after)
    assert left == pytest.approx(np.sqrt(np.sum(values[rank:] ** 2)), rel=1e-4), path
    moved = np.linalg.svd(after - before[path], compute_uv=False)
    np.testing.assert_allclose(moved[:rank], values[:rank], rtol=1e-4)
    np.testing.assert_allclose(moved[rank:], 0, atol=1e-5 * values[0])


def test_vectors_are_the_bases_and_at_full_rank_all_is():
  params = edited("difference_rank", 1, base=BASE)
  vectors = others(BASE, MATRICES)
  assert any(x.ndim == 1 for x in vectors.values()) and len(vectors) > 1
  for path, leaf in others(params, MATRICES).items():
    np.testing.assert_array_equal(leaf, vectors[path])
  whole, base = (
    dict(matrices(tree, MATRICES))
    for tree in (edited("difference_rank", 16, base=BASE), BASE)
  )
  for path, after in whole.items():
    np.testing.assert_allclose(after, base[path], atol=1e-5, err_msg=path)


def test_a_matrix_of_that_rank_is_its_own_part():
  draw = np.random.default_rng(0).standard_normal
  matrix = (draw((9, 2)) @ draw((2, 5))).astype(np.float32)
  np.testing.assert_allclose(truncated(matrix, 2), matrix, atol=1e-5)
