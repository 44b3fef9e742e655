"""Charts as SVG: words, links, colors and text that is no markup."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import pytest

from tests.frontier.made_up import SMALL, changed_model, synthetic
from undo_jax.frontier import figures
from undo_jax.frontier.figures import render
from undo_jax.frontier.figures.charts import config_link
from undo_jax.frontier.figures.style import themes

EVIL = """</script><img src=x onerror="alert('1')"> & "quotes" ]]>"""


def spec(text, **more):
  mark = {"type": "text", "text": text}
  return {"data": {"values": [{"x": 1, "run": "a b/c"}]}, "mark": mark, **more}


def svg(of, **words):
  given = {"title": "T", "description": "D", "name": "n"} | words
  return render.svg(of, **given)


def test_words_stand_for_the_chart():
  root = ET.fromstring(svg(spec("x"), title=EVIL, description="of <it>"))
  space = "{http://www.w3.org/2000/svg}"
  assert root.attrib["role"] == "img"
  assert root.find(f"{space}title").text == EVIL
  assert root.find(f"{space}desc").text == "of <it>"
  assert root.attrib["aria-labelledby"] == root.find(f"{space}title").attrib["id"]
  assert root.attrib["aria-describedby"] == root.find(f"{space}desc").attrib["id"]


@pytest.mark.parametrize("name", list(figures.REGISTRY))
def test_labels_of_models_and_attacks_are_text_in_every_chart(name):
  results = changed_model(
    synthetic(SMALL, 20, second_attack=True), "max_ent", label=EVIL
  )
  of = render.specification(figures.REGISTRY.get(name), results, render.WIDE)
  drawn = svg(of)
  names = {each.tag.rpartition("}")[2] for each in ET.fromstring(drawn).iter()}
  assert names <= {"svg", "g", "path", "text", "line", "rect", "a", "title", "desc",
                   "defs", "clipPath", "tspan"}  # fmt: skip
  assert "</script" not in drawn and "<img" not in drawn
  text = render.inlined(render.shared({"wide": of}))
  assert "<" not in text and "&" not in text
  assert EVIL in strings(json.loads(text))


def strings(value):
  """Return all strings of a JSON value."""
  if isinstance(value, dict):
    value = [*value.values()]
  if isinstance(value, list):
    return {text for each in value for text in strings(each)}
  return {value} if isinstance(value, str) else set()


def test_colors_are_variables_on_the_page_and_colors_in_a_file():
  results = synthetic(SMALL, 20)
  light, _ = themes(results)
  drawing = figures.draw_all(results)["retain_forget.svg"]
  assert "var(--ink)" in drawing.wide and "var(--m2)" in drawing.narrow
  assert "var(" not in drawing.file and light["m2"] in drawing.file
  named = set(re.findall(r"var\(--(\w+)\)", drawing.wide + drawing.narrow))
  assert named <= set(light)
  # Every other color would not follow the page into the dark.
  assert set(re.findall(r'(?:fill|stroke)="(#?\w+)"', drawing.wide)) <= {
    *("none", "transparent")
  }


def test_links_are_relative_and_ids_the_charts_own():
  encoding = {"href": {"field": "run"}, "x": {"field": "x", "type": "quantitative"}}
  drawn = svg(spec("x", encoding=encoding))
  assert '<a href="a b/c">' in drawn and "vega.github.io" not in drawn
  clipped = spec("x", encoding={"x": encoding["x"]})
  clipped["mark"]["clip"] = True
  one, other = svg(clipped, name="one"), svg(clipped, name="other")
  ids = [set(re.findall(r'\bid="(.*?)"', drawn)) for drawn in (one, other)]
  assert ids[0] and not ids[0] & ids[1]
  assert set(re.findall(r"url\(#(.*?)\)", one)) <= ids[0]


def test_places_are_rounded_and_texts_are_not():
  drawn = svg(spec("0.123456"))
  assert "0.123456</text>" in drawn
  assert not re.search(r'(?:d|transform)="[^"]*\.\d{3}', drawn)


def test_nothing_is_asked_of_a_network():
  outside = {"data": {"url": "https://example.com/rows.json"}, "mark": "point"}
  with pytest.raises(ValueError, match="(?i)not allowed|denied|base url"):
    svg(outside)


def test_rows_that_layouts_share_are_held_once():
  of = {"wide": spec("a", width=100), "narrow": spec("a", width=50)}
  got = render.shared(of)
  assert got["wide"]["data"] == got["narrow"]["data"] == {"name": "rows0"}
  assert got["datasets"] == {"rows0": of["wide"]["data"]["values"]}
  assert got["wide"]["width"] == 100 and of["wide"]["data"].keys() == {"values"}


def test_a_run_directory_is_no_other_address():
  (run,) = synthetic(SMALL, 20).models["base"].runs
  for directory in ("javascript:alert(1)", "a b/<c>"):
    link = config_link(dataclasses.replace(run, directory=directory))
    assert not re.search("[:<> ]", link)
