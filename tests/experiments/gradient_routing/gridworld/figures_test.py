"""Figures of results made by hand: what is drawn where."""

import numpy as np

from experiments.gradient_routing.gridworld import figures

LEVEL = {
  "return": {"0": 0.2, "1": 0.4},
  "mean": 0.3,
  "std": 0.1,
  "curve": {"0": [0.0, 0.2], "1": [0.0, 0.4]},
  "environment_steps": [0, 2_000_000],
}
STOPPED = {"return": {"0": 0.5, "1": 0.7}, "mean": 0.6, "std": 0.1}
RESULTS = {
  "oversight": [0.1, 0.5],
  "references": {
    "optimal": {"0.1": 0.9, "0.5": 0.9},
    "blind": {"0.1": 0.7, "0.5": 0.7},
  },
  "methods": {
    "naive": {"0.1": LEVEL, "0.5": LEVEL},
    "naive_early_stopped": {"0.1": STOPPED, "0.5": STOPPED},
  },
}


def labelled(axes):
  return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def test_returns_are_drawn_by_oversight_with_every_seed():
  (axes,) = figures.returns_by_oversight(RESULTS).axes
  lines = labelled(axes)
  np.testing.assert_array_equal(lines["naive"], [0.3, 0.3])
  np.testing.assert_array_equal(lines["naive early stopped"], [0.6, 0.6])
  np.testing.assert_array_equal(lines["scripted: optimal"], [0.9, 0.9])
  seeds = [
    y
    for line in axes.get_lines()
    for y in line.get_ydata()
    if len(line.get_xdata()) == 2
  ]
  assert {0.2, 0.4, 0.5, 0.7} <= set(seeds)


def test_curves_are_those_of_what_was_trained():
  first, second = figures.learning_curves(RESULTS).axes
  np.testing.assert_allclose(labelled(first)["naive"], [0.0, 0.3])
  assert "naive early stopped" not in labelled(first)
  assert [axes.get_title() for axes in (first, second)] == [
    "oversight 10 %",
    "oversight 50 %",
  ]
