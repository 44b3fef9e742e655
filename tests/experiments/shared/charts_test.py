"""Charts of series: what stands where, and that the files are valid and equal."""

import xml.etree.ElementTree as ET

from experiments.shared import charts

DATA = [
  *charts.rows("one", [1, 2], [3.0, 4.0], [2.5, 3.5], [3.5, 4.5]),
  *charts.rows("other <&>", [1, 2], [5.0, 6.0]),
]


def drawn(**more):
  return charts.panel(DATA, x="steps", y="payoff", title="T", **more)


def test_bands_lines_points_and_levels_are_layers():
  panel = drawn(points=("other <&>",), levels=(0.5,))
  by_mark = {layer["mark"]["type"]: layer for layer in panel["layer"]}
  assert list(by_mark) == ["area", "line", "point", "rule"]
  names = {
    m: {r.get("series") for r in v["data"]["values"]} for m, v in by_mark.items()
  }
  assert names["area"] == names["line"] == {"one"} and names["point"] == {"other <&>"}
  assert by_mark["rule"]["data"]["values"] == [{"y": 0.5}]
  assert by_mark["area"]["encoding"]["y2"] == {"field": "high"}


def test_a_file_is_valid_says_what_it_shows_and_is_the_same_again():
  one, other = (
    charts.svg([drawn(scales=("log", "symlog"))] * 2, title="T", description="D")
    for _ in range(2)
  )
  assert one == other
  root = ET.fromstring(one)
  texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
  assert "steps" in texts and "other <&>" in texts
  assert b"var(--" not in one
