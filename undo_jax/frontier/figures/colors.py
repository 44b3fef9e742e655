"""Colors as lightness, chroma and hue, in which equal steps look equal.

Reference: B. Ottosson, A perceptual color space for image processing (2020): OKLab.
"""

from collections.abc import Iterable
import functools
import math
import re

import numpy as np

# Told apart with any color vision: Okabe and Ito, Color universal design (2008), and
# after them P. Tol, Colour schemes (2021), muted.
PALETTE = (
  *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
  *("#882255", "#999933", "#332288", "#44aa99", "#aa4499", "#661100"),
)
_CLOSE = 0.07  # Colors nearer than that are one and the same to a reader.
# Of what a colormap's name says: "Blues", "BuGn".
_NAMED = {
  **{"blue": "#0072b2", "bu": "#0072b2", "green": "#009e73", "gn": "#009e73"},
  **{"orange": "#e69f00", "or": "#e69f00", "red": "#d55e00", "rd": "#d55e00"},
  **{"purple": "#aa4499", "pu": "#aa4499", "pink": "#cc79a7", "grey": "#777777"},
}
# From linear RGB to the cones, and from their cube roots to lightness, a and b.
_CONES = np.array(
  [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
  ]
)
_LAB = np.array(
  [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
  ]
)


def known(color: str | None) -> str | None:
  """Return "#rrggbb" of a color, or of a sequential colormap's name; else None."""
  if color is None:
    return None
  if re.fullmatch("#[0-9a-fA-F]{6}", color):
    return color.lower()
  words = re.fullmatch("(?:[A-Z][a-z]+)+", color)
  last = re.findall("[A-Z][a-z]+", color)[-1] if words else ""
  return _NAMED.get(last.lower().removesuffix("s"))


@functools.lru_cache(maxsize=4096)
def to_lch(color: str) -> tuple[float, float, float]:
  """Return lightness in [0, 1], chroma and hue in radians of "#rrggbb"."""
  lightness, a, b = (_LAB @ np.cbrt(_CONES @ _linear(color))).tolist()
  return lightness, math.hypot(a, b), math.atan2(b, a)


@functools.lru_cache(maxsize=4096)
def from_lch(lightness: float, chroma: float, hue: float) -> str:
  """Return "#rrggbb"; a color that screens lack loses chroma until they have it."""
  linear = np.zeros(3)
  for part in np.linspace(1.0, 0.0, 41):
    lab = [
      lightness,
      part * chroma * math.cos(hue),
      part * chroma * math.sin(hue),
    ]
    linear = np.linalg.solve(_CONES, np.linalg.solve(_LAB, lab) ** 3)
    if (linear > -1e-4).all() and (linear < 1 + 1e-4).all():
      break
  linear = linear.clip(0, 1)
  srgb = np.where(
    linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
  )
  return "#" + "".join(f"{round(255 * part):02x}" for part in srgb.tolist())


def on_light(color: str, place: float | None) -> str:
  """Return a color for a white page, or its shade at a place of a sweep.

  Args:
    color: "#rrggbb".
    place: in [0, 1], from pale to dark; None: no member of a sweep.
  """
  lightness, chroma, hue = to_lch(color)
  if place is None:
    return from_lch(min(lightness, 0.74), chroma, hue)
  return from_lch(0.80 - 0.38 * place, chroma, hue)


def on_dark(color: str, place: float | None) -> str:
  """Return the same for a black page, where the end of a sweep is the brightest."""
  lightness, chroma, hue = to_lch(color)
  if place is None:
    if chroma < 0.03:  # Black is white there; a hue keeps its lightness if it can.
      return from_lch(max(lightness, 1.1 - 0.8 * lightness), chroma, hue)
    return from_lch(max(lightness, 0.62), chroma, hue)
  return from_lch(0.50 + 0.36 * place, chroma, hue)


def ramp(count: int, *, dark: bool) -> list[str]:
  """Return a scale of one hue, from nearly the page's own shade away from it."""
  first, last = (0.27, 0.84) if dark else (0.965, 0.47)
  places = np.linspace(0.0, 1.0, count)
  return [
    from_lch(first + (last - first) * p, 0.01 + 0.125 * p**0.8, 0.75) for p in places
  ]


def distance(one: str, other: str) -> float:
  """Return how far apart two colors look; 0.02 is hardly seen."""
  (l1, c1, h1), (l2, c2, h2) = to_lch(one), to_lch(other)
  a, b = c1 * math.cos(h1) - c2 * math.cos(h2), c1 * math.sin(h1) - c2 * math.sin(h2)
  return math.hypot(l1 - l2, a, b)


def is_new(color: str, others: Iterable[str]) -> bool:
  """Whether a color is easily distinguished from all others."""
  return all(distance(color, other) > _CLOSE for other in others)


def another(others: Iterable[str]) -> str:
  """Return the first of the palette that is new, or else what is farthest from all."""
  others = tuple(others)
  for color in PALETTE:
    if is_new(color, others):
      return color
  around = [
    from_lch(lightness, 0.13, hue)
    for lightness in (0.5, 0.65)
    for hue in np.linspace(0.0, 2 * math.pi, 24, endpoint=False)
  ]
  return max(around, key=lambda color: min(distance(color, o) for o in others))


def contrast(one: str, other: str) -> float:
  """Return the contrast ratio of two colors, 1 to 21 (WCAG 2.2)."""
  luminance = [float(_linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)]
  return (max(luminance) + 0.05) / (min(luminance) + 0.05)


def _linear(color: str) -> np.ndarray:
  """Return linear red, green and blue of "#rrggbb"."""
  srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
  return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
