"""The registry of figures, names that are not in it, and what a chart is made of."""

import sys

import altair
import jsonschema
import pytest

from tests.frontier import made_up
from tests.frontier.made_up import SMALL, synthetic
from undo_jax.frontier import figures, report
from undo_jax.frontier.figures import render
from undo_jax.frontier.figures.figure import Figure
from undo_jax.utils.errors import ConfigError


def _mine():
  def draw(results, width):
    text = {"type": "text", "text": results.task}
    return {"data": {"values": [{}]}, "mark": text, "width": width, "height": 40}

  return Figure(draw=draw, title="Mine & yours", caption="<b>Made up.</b>")


def test_names_of_figures_do_not_leave_their_folder(monkeypatch):
  monkeypatch.setitem(figures.REGISTRY._known, "../../<b>/..:x", _mine())
  results = synthetic(SMALL, report=made_up.report(figures=("../../<b>/..:x",)))
  assert list(figures.chosen(results)) == [".......b.....x.svg"]


def test_a_figure_may_be_a_chart_of_altair_from_a_file_of_ones_own(
  tmp_path, monkeypatch
):
  (tmp_path / "my_figures.py").write_text(
    "import altair\n"
    "from undo_jax.frontier.figures.figure import Figure\n"
    "def draw(results, width):\n"
    "  rows = altair.InlineData(values=[{'x': 1, 'task': results.task}])\n"
    "  chart = altair.Chart(rows, width=width - 40)\n"
    "  return chart.mark_text().encode(x='x:Q', text='task:N')\n"
    "FIGURE = Figure(draw=draw, title='Mine & yours', caption='<b>Made up.</b>')\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  chosen = made_up.report(figures=("my_figures:FIGURE", "attack_defense"))
  paths = report.write(synthetic(SMALL, 20, report=chosen), tmp_path / "run")
  assert [path.name for path in paths[:-1]] == [
    "my_figures.FIGURE.svg",
    "attack_defense.svg",
  ]
  assert ">arithmetic</text>" in paths[0].read_text()
  page = paths[-1].read_text()
  assert page.count('<title id="f0-wide-t">Mine &amp; yours</title>') == 1
  assert "&lt;b&gt;Made up.&lt;/b&gt;" in page and "<b>Made" not in page
  sys.modules.pop("my_figures")


def test_figures_that_are_not_there_are_refused():
  for name, message in (("curves", "as figure one of"), ("os:getcwd", "a Figure")):
    chosen = made_up.report(figures=(name,))
    with pytest.raises(ConfigError, match=message):
      figures.draw_all(synthetic(SMALL, 20, report=chosen))


@pytest.mark.parametrize("name", list(figures.REGISTRY))
def test_charts_are_of_the_schema_of_vega_lite(name):
  results = synthetic(SMALL, 20, second_attack=True, seeds=(0, 1))
  schema = altair.load_schema()
  for width in (render.WIDE, render.NARROW):
    spec = render.specification(figures.REGISTRY.get(name), results, width)
    jsonschema.Draft7Validator(schema).validate(spec)
  spec["params"].append({"name": 3})
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.Draft7Validator(schema).validate(spec)
