"""The worst learning rates: a panel an attack, a row a model, a cell a step."""

import numpy as np

from tests.frontier.made_up import (
  RATES,
  SMALL,
  at_rate,
  changed_run,
  relearning,
  synthetic,
)
from undo_jax.frontier.figures import learning_rates


def cells(axes):
  """Returns the indices that the colors of a panel stand for."""
  (mesh, *_) = axes.collections
  return np.ma.filled(mesh.get_array().astype(float), np.nan)


def test_every_attack_has_a_panel():
  results = synthetic(SMALL, 100, second_attack=True)
  assert len(learning_rates.draw(results).axes) == 2


def test_a_cell_is_the_index_of_the_worst_rate_of_its_step():
  results = at_rate(synthetic(SMALL, 20), "max_ent", RATES[3])
  # Learned by two rates alike, and not evaluated after 20 updates.
  tied = relearning([[0.1, 0.5], [0.1, 0.5]], steps=(0, 10))
  results = changed_run(results, "undo_alpha_0.3", attacks={"relearn": tied})
  (axes,) = learning_rates.draw(results).axes
  got = cells(axes)
  assert got.shape == (len(SMALL), 2)  # The start is nobody's.
  np.testing.assert_array_equal(got[SMALL.index("max_ent")], [3, 3])
  np.testing.assert_array_equal(got[SMALL.index("undo_alpha_0.3")], [-1, np.nan])
