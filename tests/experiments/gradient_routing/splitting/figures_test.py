"""Figures of results made by hand: what is drawn where."""

import numpy as np

from experiments.gradient_routing.splitting import figures

SETTING = {
  "certificate_mse": {"0": [[0.1, 0.2], [0.3, 0.5]], "1": [[0.1, 0.2], [0.4, 0.6]]},
  "mean": [0.35, 0.55],
  "paper": (0.32, 0.08),
}
RESULTS = {
  "mean_image": [0.7, 0.8],
  "settings": {"routing": SETTING, "free": SETTING | {"paper": None}},
}


def test_the_second_halfs_errors_are_drawn_by_group():
  (axes,) = figures.certificates(RESULTS, num_classes=10).axes
  lines = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
  np.testing.assert_array_equal(lines["classes 0 to 4"], [0.35])
  np.testing.assert_array_equal(lines["classes 5 to 9, paper on MNIST"], [0.08])
  drawn = [list(line.get_xdata()) for line in axes.get_lines()]
  assert drawn.count([0.3, 0.4]) == drawn.count([0.5, 0.6]) == 2
  assert drawn.count([0.08]) == 1


def test_images_stand_above_what_the_certificates_make_of_them():
  originals_SxP = np.array([[-1.0, 1.0], [0.0, 1.0]])
  shown = {"routing": [[[0, 10], [20, 30]], [[40, 50], [60, 70]]]}
  panels = figures.samples(originals_SxP, shown, (1, 2)).axes
  images = [np.asarray(axes.images[0].get_array()).ravel().tolist() for axes in panels]
  assert images[:2] == [[0, 255], [127, 255]]
  assert images[2:] == [[0, 10], [20, 30], [40, 50], [60, 70]]
