"""An attack as a stage: what it perturbs, trains and scores."""

import numpy as np

from tests.running.variants import params_of, params_of_population


def test_the_attack_perturbs_and_trains_its_part_of_the_model(variants):
  run, outcomes = variants
  model = params_of(run, "undo_alpha_0.5")
  attacked = params_of_population(run, "relearn_undo_alpha_0.5")
  np.testing.assert_array_equal(attacked["embedding"][0], model["embedding"])
  kernel, start = (
    tree["layers"]["attention"]["query"]["kernel"] for tree in (attacked, model)
  )
  np.testing.assert_array_equal(kernel[0, 1], start[1])
  # Two updates of at most 0.01 after the model shrank by 0.3.
  shrunk = np.sum(kernel[0, 0] * start[0]) / np.sum(start[0] ** 2)
  assert 0.5 < shrunk < 0.9
  assert outcomes["relearn_undo_alpha_0.5"]["steps"] == [0, 1, 2]
