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


def test_pictures_are_pixels_in_rows_and_columns():
  gray, color = [0, 255, 16, 32], [[255, 0, 0]] * 4
  grid = {"top": {"a": gray, "b": gray}, "low": {"a": gray}}
  panel = charts.pictures(grid, (2, 2), rows="R", columns="C", title="T")
  rects = panel["layer"][0]["data"]["values"]
  assert [r["color"] for r in rects[:4]] == ["#000000", "#ffffff", "#101010", "#202020"]
  places = [(r["x"], r["y"]) for r in rects]
  assert places[:4] == [(0, 0), (1, 0), (0, 1), (1, 1)]
  assert places[4] == (3, 0) and places[8] == (0, 3) and len(rects) == 12
  panel = charts.pictures(
    {"top": {"a": color}}, (2, 2, 3), rows="R", columns="C", title="T"
  )
  assert {r["color"] for r in panel["layer"][0]["data"]["values"]} == {"#ff0000"}
  texts = charts.svg([panel], title="T", description="D")
  assert b">top<" in texts and b">a<" in texts and b"#ff0000" in texts
