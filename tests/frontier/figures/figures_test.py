"""The registry of figures, and names that are not in it."""

import sys

from matplotlib.figure import Figure as Drawing
from matplotlib.image import imread
import pytest

from tests.frontier import made_up
from tests.frontier.made_up import SMALL, synthetic
from undo_jax.frontier import figures, report
from undo_jax.frontier.figures.figure import Figure
from undo_jax.utils.errors import ConfigError


def test_names_of_figures_do_not_leave_their_folder(monkeypatch):
  monkeypatch.setitem(figures.REGISTRY._known, "../../<b>/..:x", _mine())
  results = synthetic(SMALL, report=made_up.report(figures=("../../<b>/..:x",)))
  assert list(figures.chosen(results)) == [".......b.....x.png"]


def _mine():
  def draw(results):
    figure = Drawing(figsize=(2.0, 1.0))
    figure.text(0.1, 0.5, results.task)
    return figure

  return Figure(draw=draw, title="Mine & yours", caption="<b>Made up.</b>")


def test_a_figure_may_come_from_a_file_of_ones_own(tmp_path, monkeypatch):
  (tmp_path / "my_figures.py").write_text(
    "from matplotlib.figure import Figure as Drawing\n"
    "from undo_jax.frontier.figures.figure import Figure\n"
    "def draw(results):\n"
    "  figure = Drawing(figsize=(2.0, 1.0))\n"
    "  figure.text(0.1, 0.5, results.task)\n"
    "  return figure\n"
    "FIGURE = Figure(draw=draw, title='Mine & yours', caption='<b>Made up.</b>')\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  chosen = made_up.report(figures=("my_figures:FIGURE", "retain_forget"))
  paths = report.write(synthetic(SMALL, 20, report=chosen), tmp_path / "run")
  assert [path.name for path in paths[:-1]] == [
    "my_figures.FIGURE.png",
    "retain_forget.png",
  ]
  assert imread(paths[0]).shape[:2] == (200, 400)
  page = paths[-1].read_text()
  assert 'src="figures/my_figures.FIGURE.png" alt="Mine &amp; yours"' in page
  assert "&lt;b&gt;Made up.&lt;/b&gt;" in page
  sys.modules.pop("my_figures")


def test_figures_that_are_not_there_are_refused():
  for name, message in (("curves", "as figure one of"), ("os:getcwd", "a Figure")):
    chosen = made_up.report(figures=(name,))
    with pytest.raises(ConfigError, match=message):
      figures.draw_all(synthetic(SMALL, 20, report=chosen))
