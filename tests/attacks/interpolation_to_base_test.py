"""Interpolation to the base against its closed form, at its ends exactly."""

import jax
import numpy as np
import pytest

from tests.attacks.edited import BASE, PARAMS, edited
from tests.attacks.tiny import equal


@pytest.mark.parametrize("part", [0.25, 0.9])
def test_all_weights_go_a_part_of_the_way(part):
  params = edited("interpolation_to_base", part, base=BASE)

  def check(after, w, w0):
    w, w0 = np.float64(w), np.float64(w0)
    np.testing.assert_allclose(after, w + part * (w0 - w), rtol=1e-5, atol=1e-6)

  jax.tree.map(check, params, PARAMS, BASE)


def test_the_ends_are_the_model_and_the_base():
  equal(edited("interpolation_to_base", 0.0, base=BASE), PARAMS)
  equal(edited("interpolation_to_base", 1.0, base=BASE), BASE)
