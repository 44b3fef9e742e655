"""Figures of results made by hand: what is drawn where."""

import numpy as np

from experiments.gradient_routing.stories import figures
from experiments.gradient_routing.stories.results import measures


def make_model(method, labelled, forget):
  measured = {
    "before": {"forget": 0.5, "retain": 0.5},
    "after": {"forget": forget, "retain": 0.75},
    "retrained": {"4": {"steps": [2, 4], "forget": [0.75, 0.625], "retain": [1, 1]}},
    "unlearning": forget - 0.5,
    "robust_unlearning": 0.125,
  }
  mean = measures(measured)
  return {
    "method": method,
    "labelled": labelled,
    "seeds": {"0": measured},
    "mean": mean,
  }


RESULTS = {
  "models": {
    "base": make_model("filtering", 0.0, 0.5),
    "filtering_0.5": make_model("filtering", 0.5, 1.0),
    "filtering_1": make_model("filtering", 1.0, 2.0),
  }
}


def line(axes, label):
  (drawn,) = (line for line in axes.get_lines() if line.get_label() == label)
  return drawn


def test_measures_are_drawn_by_the_labelled_fraction():
  unlearning, _, retain = figures.labels(RESULTS).axes
  filtering = line(unlearning, "data filtering")
  np.testing.assert_array_equal(filtering.get_xdata(), [50, 100])
  np.testing.assert_array_equal(filtering.get_ydata(), [0.5, 1.5])
  np.testing.assert_array_equal(line(retain, "base").get_ydata(), [0.75, 0.75])


def test_retraining_starts_from_the_loss_before_it():
  (axes,) = figures.retraining(RESULTS).axes
  curve = line(axes, "data filtering")
  np.testing.assert_array_equal(curve.get_xdata(), [0, 2, 4])
  np.testing.assert_array_equal(curve.get_ydata(), [2.0, 0.75, 0.625])
