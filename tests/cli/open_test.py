"""The command that opens a run's page."""

import webbrowser

import pytest

from undo_jax.cli import open as command
from undo_jax.utils.types import ConfigError


def test_the_page_is_printed_and_opened(tmp_path, monkeypatch, capsys):
  page = tmp_path / "a run" / "report.html"
  page.parent.mkdir()
  page.write_text("<p>")
  opened = []
  monkeypatch.setattr(webbrowser, "open", opened.append)
  command.define()(["open", str(page.parent)])
  assert capsys.readouterr().out == f"{page}\n"
  assert opened == [page.as_uri()] and "a%20run" in opened[0]


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["nowhere"]])
def test_what_is_no_run_is_told_in_one_line(arguments, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigError, match="expected the directory of") as error:
    command.define()(["open", *arguments])
  assert "\n" not in str(error.value)
