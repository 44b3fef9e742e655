"""Figures of results made by hand: what is drawn where."""

import numpy as np

from experiments.gradient_routing.tug_of_war import figures

ERRORS = {
  "before": {"forget": 0.1, "retain": 0.2},
  "after": {"forget": 3.0, "retain": 0.3},
}
RESULTS = {
  "variance": {"forget": 1.48, "retain": 1.5},
  "two_parameters": {"0.2": {"steps": [1, 2], "old": [1.0, 4.5], "new": [0.5, -3.0]}},
  "two_tasks": {"no_routing": {"0": ERRORS, "1": ERRORS}},
}


def test_the_sum_of_the_parameters_is_drawn_beside_them():
  left, right = figures.two_parameters(RESULTS).axes
  old, new = (line.get_ydata() for line in left.get_lines())
  np.testing.assert_array_equal(old, [1.0, 4.5])
  np.testing.assert_array_equal(new, [0.5, -3.0])
  (total,) = right.get_lines()
  np.testing.assert_array_equal(total.get_ydata(), [1.5, 1.5])


def test_errors_are_drawn_before_and_after_ablation():
  (axes,) = figures.two_tasks(RESULTS).axes
  lines = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
  np.testing.assert_array_equal(lines["forget, after ablation"], [3.0, 3.0])
  np.testing.assert_array_equal(lines["retain, before ablation"], [0.2, 0.2])
