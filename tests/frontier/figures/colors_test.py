"""Colors against published values, and as color-blind readers see them."""

import itertools
import math

import numpy as np
import pytest

from undo_jax.frontier.figures import colors

# CSS Color 4, section 20: lightness, chroma, hue in degrees.
PUBLISHED = {
  "#ffffff": (1.0, 0.0, None),
  "#000000": (0.0, 0.0, None),
  "#ff0000": (0.62796, 0.25768, 29.234),
  "#00ff00": (0.86644, 0.29483, 142.495),
  "#0000ff": (0.45201, 0.31321, 264.052),
}
# Machado, Oliveira and Fernandes (2009), of linear RGB, severity 1.
VISION = {
  "protanopia": [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  "deuteranopia": [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
  ],
}


@pytest.mark.parametrize("color", PUBLISHED)
def test_lightness_chroma_and_hue_are_the_published_ones(color):
  lightness, chroma, hue = colors.to_lch(color)
  expected = PUBLISHED[color]
  np.testing.assert_allclose((lightness, chroma), expected[:2], atol=2e-4)
  if expected[2] is not None:
    assert math.isclose(math.degrees(hue) % 360, expected[2], abs_tol=0.05)
  assert colors.from_lch(lightness, chroma, hue) == color


def test_what_screens_lack_keeps_its_lightness_and_hue():
  got = colors.to_lch(colors.from_lch(0.5, 0.4, 2.0))
  assert got[1] < 0.4
  np.testing.assert_allclose((got[0], got[2]), (0.5, 2.0), atol=0.01)


def test_contrast_is_that_of_the_guidelines():
  assert math.isclose(colors.contrast("#000000", "#ffffff"), 21.0)
  assert math.isclose(colors.contrast("#777777", "#ffffff"), 4.48, abs_tol=0.01)


def seen(color, matrix):
  """Return a color as one sees it who lacks a kind of cones."""
  srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
  linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
  linear = (np.array(matrix) @ linear).clip(0, 1)
  srgb = np.where(
    linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
  )
  return "#" + "".join(f"{round(255 * part):02x}" for part in srgb)


@pytest.mark.parametrize("shade", [lambda c: c, lambda c: colors.on_dark(c, None)])
@pytest.mark.parametrize("vision", VISION)
def test_the_first_colors_are_told_apart_by_every_reader(vision, shade):
  first = [seen(shade(color), VISION[vision]) for color in colors.PALETTE[:6]]
  for one, other in itertools.combinations(first, 2):
    assert colors.distance(one, other) > 0.04


def test_marks_stand_out_from_both_pages():
  for color in colors.PALETTE:
    assert colors.contrast(colors.on_light(color, None), "#ffffff") > 1.8
    assert colors.contrast(colors.on_dark(color, None), "#15151a") > 4.5
    for place in (0.0, 0.5, 1.0):
      assert colors.contrast(colors.on_light(color, place), "#ffffff") > 1.6
      assert colors.contrast(colors.on_dark(color, place), "#15151a") > 2.5


@pytest.mark.parametrize(
  ("given", "expected"),
  [("#ABCDEF", "#abcdef"), ("Blues", "#0072b2"), ("BuGn", "#009e73")]
  + [(text, None) for text in ("red;}", "url(x)", "#12", "", "#1234567", "blues")]
  + [(None, None)],
)
def test_colors_of_a_config_are_hexadecimal_or_named(given, expected):
  assert colors.known(given) == expected
