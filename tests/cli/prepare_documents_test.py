"""The command as a user runs it: its table, the extracted text, one line on error."""

import json
import os
import re

import pytest

from tests import children
from undo_jax.data import rows

pytestmark = pytest.mark.processes


def run(tmp_path, *arguments):
  return children.run("prepare_documents", *arguments, cwd=tmp_path)


@pytest.fixture
def corpus(tmp_path):
  """20 lines of 6 bytes, and two pages, one of them without text."""
  (tmp_path / "a.txt").write_text("\n".join(f"text{n:02}" for n in range(20)))
  (tmp_path / "pages").mkdir()
  (tmp_path / "pages" / "one.html").write_text("<nav>no</nav><h1>한국어</h1><p>x")
  (tmp_path / "pages" / "two.html").write_text("<nav>no</nav>")


def test_rows_are_written_and_counted(tmp_path, corpus):
  arguments = [
    "--source=retain=a.txt",
    "--source=forget=pages",
    "--validation_fraction=0",
    "--length=10",
    "--num_workers=2",
    "--output=out",
  ]
  status, printed, said = run(tmp_path, *arguments)
  assert status == 0, said
  *table, last = printed.splitlines()
  # A document is 6 bytes, BOS and EOS; all but the first token are targets.
  cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
  assert [cells[0], *cells[2:]] == [
    ["split", "documents", "tokens", "scored", "rows", "left out"],
    ["retain_train", "20", "120", "159", "16", "0"],
    ["forget_train", "1", "11", "12", "2", "1"],
  ]
  assert re.fullmatch(
    r"out: 0\.0 MB of text in [\d.]+ s, [\d.]+ MB/s; peak memory 0\.\d\d GB", last
  )
  assert "retain: 0/0 megabytes" in said and "20 documents, " in said
  assert len(rows.source(tmp_path / "out", length=10, split="retain_train")) == 16
  _, again, _ = run(tmp_path, *arguments)
  assert again.splitlines() == [*table, "out held this already"]


def test_pages_become_json_lines(tmp_path, corpus):
  status, printed, _ = run(tmp_path, "--source=help=pages", "--output=new/help.jsonl")
  assert (status, printed) == (0, "new/help.jsonl: 1 documents\n")
  (line,) = (tmp_path / "new" / "help.jsonl").read_text().splitlines()
  assert json.loads(line) == {"text": "한국어\nx", "source": "pages/one.html"}


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--source=a.txt"], "--source: expected NAME=PATHS, got 'a.txt'"),
    (["--source=x=a.txt", "--source=x=pages"], "--source: expected each NAME once"),
    (["--source=x=bad.txt"], "source 'x': expected UTF-8, but bad.txt, line 1, has"),
    (["--source=x=a.txt", "--output=a.jsonl"], "a.jsonl exists already and is not"),
  ],
)
def test_bad_input_is_one_line(tmp_path, corpus, arguments, message):
  (tmp_path / "bad.txt").write_bytes(b"\xff")
  (tmp_path / "a.jsonl").write_text("kept")
  before = sorted(os.listdir(tmp_path))
  status, _, said = run(tmp_path, "--output=out", *arguments)
  assert status == 2
  assert said.startswith("error: ") and message in said
  assert said.count("\n") == 1
  assert sorted(os.listdir(tmp_path)) == before
