"""WGA: ascent that ends where nothing is left."""

import jax
import numpy as np

from tests.objectives.toy import assert_trees_close, batch_of, draw_params, run


def test_exponent_0_is_gradient_ascent():
  params, batch = draw_params(1), batch_of("wga")
  mine = run("wga", params, batch, exponent=0.0)
  ascent = run("grad_diff", params, batch, retain_weight=0.5)
  np.testing.assert_allclose(mine[0], ascent[0], rtol=1e-5)
  assert_trees_close(mine[1], ascent[1], 1e-6)


def test_what_has_no_likelihood_left_moves_nothing():
  params, batch = draw_params(1), batch_of("wga")
  sharp = params | {"out": 1e3 * np.asarray(params["out"])}
  grads = run("wga", sharp, batch, retain_weight=0.0, exponent=1.0)[1]
  full = run("wga", sharp, batch, retain_weight=0.0, exponent=0.0)[1]
  sizes = [
    max(np.abs(leaf).max() for leaf in jax.tree.leaves(g)) for g in (grads, full)
  ]
  # Predictions are one-hot: the target has all of the mass, and no gradient, or none.
  assert sizes[0] < 1e-3 * sizes[1]
