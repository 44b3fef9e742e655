"""A run whose labels are hostile: its page, figures and results show them as text."""

import html.parser
import json
import re
import shutil
import xml.etree.ElementTree as ET

import pytest

from tests import minimal, sharing
from tests.frontier.report_test import HTML, SVG, tags
from undo_jax.running.runs import run_all
from undo_jax.utils import files

MARKUP = """</script><img src=x onerror=alert(1)>"'&amp;{{7*7}}${x}<![CDATA[ --> ]]>"""
TURNED = "\u202e\u2066\u202d"  # Nothing ends them.
HEBREW = "\u05e9\u05dc\u05d5\u05dd"
LABEL = MARKUP + TURNED + HEBREW


class Texts(html.parser.HTMLParser):
  """Gathers what a page shows outside of its scripts."""

  def __init__(self, page):
    super().__init__()
    self.texts, self._open = [], []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self._open.append(tag)

  def handle_endtag(self, tag):
    while self._open and self._open.pop() != tag:
      pass

  def handle_data(self, data):
    if not {"script", "style"} & {*self._open}:
      self.texts.append(data)


@pytest.mark.usefixtures("one_device")
def test_labels_of_a_run_are_shown_as_text(alone, tmp_path):
  workdir = shutil.copytree(alone, tmp_path / "run")
  labels = {f"models.{name}.look.label": LABEL + name for name in ("base", "max_ent")}
  labels["attacks.relearn.label"] = LABEL
  results = run_all(minimal.config(**(sharing.CHANGES | labels)), workdir)
  assert results.models["max_ent"].label == LABEL + "max_ent"
  content = files.read_json(workdir / "results.json")
  assert content["models"]["max_ent"]["label"] == LABEL + "max_ent"
  page = (workdir / "report.html").read_text()
  assert tags(page) <= HTML | SVG
  shown = "".join(Texts(page).texts)
  for name in ("base", "max_ent"):
    assert MARKUP + HEBREW + name in shown
  assert not set(TURNED) & set(page)
  assert "49" not in {text.strip() for text in Texts(page).texts}
  drawn = list((workdir / "figures").glob("*.svg"))
  assert drawn
  for path in drawn:
    elements = list(ET.parse(path).iter())
    names = {element.tag.rpartition("}")[2].lower() for element in elements}
    assert names <= SVG | {"a", "title"}
    for name, value in (x for element in elements for x in element.attrib.items()):
      assert not name.startswith("on") and "javascript:" not in value
      if name.endswith("href"):
        assert re.fullmatch(r"stages/(base|max_ent)-[0-9a-f]{12}/config.json", value)
  assert json.loads((workdir / "results.json").read_text()) == content
