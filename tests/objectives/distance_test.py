"""Distance regularization: a pull of the same strength at any distance."""

import jax
import numpy as np
import pytest

from tests.objectives.toy import FROZEN, draw_params
from undo_jax.objectives.distance import root_mean_square


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_the_gradient_has_the_same_length_wherever_it_is_far(factor):
  start = FROZEN["reference"]
  params = jax.tree.map(lambda x, y: x + factor * (y - x), start, draw_params(1))
  grads = jax.grad(lambda p: root_mean_square(p, start).sum)(params)
  flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])
  np.testing.assert_allclose(np.linalg.norm(flat), len(flat) ** -0.5, rtol=1e-4)


def test_it_is_nothing_where_training_begins_in_a_narrower_dtype_too():
  params = draw_params(1)
  start = jax.tree.map(lambda x: x.astype("bfloat16"), params)
  value, grads = jax.value_and_grad(lambda p: root_mean_square(p, start).sum)(params)
  np.testing.assert_allclose(value, 1e-4, rtol=1e-5)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))
