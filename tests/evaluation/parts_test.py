"""Evaluation in parts: the values of the whole, from few rows at once."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.distributed import placement, sharding
from undo_jax.evaluation.parts import in_parts

ROWS = {"x": jnp.arange(21.0).reshape(7, 3), "y": jnp.arange(7)}


@pytest.mark.parametrize(
  ("rows_at_once", "held"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 4), (7, 7), (99, 7)]
)
def test_values_are_those_of_the_whole_and_parts_as_equal_as_they_come(
  rows_at_once, held
):
  seen = []

  def fn(arrays):
    seen.append(len(arrays["y"]))
    return jnp.stack([arrays["x"].sum(-1), 10.0 * arrays["y"]], axis=-1)

  got = in_parts(fn, ROWS, rows_at_once)
  expected = np.stack([3 * (3 * np.arange(7.0) + 1), 10 * np.arange(7.0)], axis=-1)
  np.testing.assert_array_equal(got, expected)
  assert set(seen) == {held}


@pytest.mark.parametrize(("rows_at_once", "held"), [(3, 8), (8, 8), (17, 16), (99, 24)])
def test_every_device_has_its_rows_of_a_part_and_no_others(rows_at_once, held):
  """21 rows on eight devices, each of which has at least one of a part."""
  mesh, rows = testing.mesh(8), jnp.arange(1.0, 22.0)
  seen = []

  def fn(arrays):
    seen.append(len(arrays["y"]))
    return 1 / arrays["y"]

  evaluate = jax.jit(
    placement.on(mesh, lambda arrays: in_parts(fn, arrays, rows_at_once))
  )
  given = jax.device_put({"y": rows}, sharding.replicated(mesh))
  np.testing.assert_allclose(evaluate(given), 1 / np.arange(1.0, 22.0), rtol=1e-6)
  assert set(seen) == {held}
  program = evaluate.lower(given).compile().as_text()
  divided = re.findall(r"= f32\[([\d,]+)\]\S* divide\(", program)
  assert {math.prod(map(int, size.split(","))) for size in divided} == {held // 8}


def test_what_parts_are_filled_up_with_is_dropped():
  got = in_parts(lambda arrays: 1 / arrays["y"], {"y": jnp.arange(1.0, 6.0)}, 2)
  np.testing.assert_allclose(got, 1 / np.arange(1.0, 6.0), rtol=1e-6)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
