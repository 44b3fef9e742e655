"""Figures of results made by hand: what is drawn where."""

import numpy as np

from experiments.gradient_routing.steering import figures

MEASURED = {
  "score": 0.9,
  "related": [0.5, 0.6],
  "others": [0.1],
  "steering": {
    "0": {"word": 0.25, "related": 0.5},
    "5": {"word": 0.75, "related": 1.0},
  },
}
RESULTS = {
  "word": "forest",
  "models": {"routed": {"0": MEASURED}, "control": {"0": MEASURED}},
}


def lines(axes):
  return {line.get_label(): line for line in axes.get_lines()}


def test_the_word_is_drawn_among_all_tokens():
  (axes,) = figures.projection(RESULTS).axes
  scores = {label: line.get_xdata() for label, line in lines(axes).items()}
  np.testing.assert_array_equal(scores["forest"], [0.9])
  np.testing.assert_array_equal(scores["other words of its topic"], [0.5, 0.6])


def test_shares_are_drawn_by_strength():
  word, related = figures.steering(RESULTS).axes
  np.testing.assert_array_equal(lines(word)["routed"].get_xdata(), [0, 5])
  np.testing.assert_array_equal(lines(word)["routed"].get_ydata(), [0.25, 0.75])
  np.testing.assert_array_equal(lines(related)["control"].get_ydata(), [0.5, 1.0])
