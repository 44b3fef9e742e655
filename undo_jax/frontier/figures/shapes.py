"""Markers: matplotlib's names, as configs write them, to shapes that Vega draws."""

import math


def _polygon(corners: int, *, turn: float = 0.0, inner: float | None = None) -> str:
  """Return a path in [-1, 1]; with `inner`, a star whose notches are so far in."""
  points = corners if inner is None else 2 * corners
  radii = [1.0 if inner is None or i % 2 == 0 else inner for i in range(points)]
  angles = [turn + 2 * math.pi * i / points for i in range(points)]
  places = (
    f"{r * math.sin(a):.3f},{-r * math.cos(a):.3f}"
    for r, a in zip(radii, angles, strict=True)
  )
  return "M" + "L".join(places) + "Z"


# No two of them look alike; the order in which models without one get theirs.
SHAPES = {
  "o": "circle",
  "s": "square",
  "^": "triangle-up",
  "D": "diamond",
  "v": "triangle-down",
  "P": "cross",
  "*": _polygon(5, inner=0.45),
  "X": _polygon(4, turn=math.pi / 4, inner=0.38),
  "<": "triangle-left",
  ">": "triangle-right",
  "p": _polygon(5),
  "h": _polygon(6),
  "d": "M0,-1L0.55,0L0,1L-0.55,0Z",
  "8": _polygon(8, turn=math.pi / 8),
  "H": _polygon(6, turn=math.pi / 6),
}
# Custom paths fill less of their box than Vega's own shapes of an area.
GROWTH = {"*": 2.2, "X": 1.7, "p": 1.5, "h": 1.4, "d": 1.9, "8": 1.3, "H": 1.4}
