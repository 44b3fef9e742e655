"""MUSE's files as they are published: lists, lines, tables; what is wrong is named."""

import json

import pyarrow
from pyarrow import parquet
import pytest

from tests import muse_files
from undo_jax.data import muse
from undo_jax.utils.types import ConfigError


@pytest.fixture
def directory(tmp_path):
  muse_files.write(tmp_path)
  return tmp_path


def test_rows_are_the_texts_of_their_fields(directory):
  assert muse.read(directory, "verbmem", "forget")[1] == ("Bo has", "1 hats. 1 hats. ")
  assert muse.read(directory, "knowmem", "forget_qa_icl") == [("Hats of Zoe?", "26")]
  assert muse.read(directory, "privleak", "holdout")[0] == ("Ann wore no hat.",)
  assert muse.has(directory, "knowmem", "forget_qa_icl")
  assert not muse.has(directory, "knowmem", "retain_qa_icl")


def test_lines_and_tables_are_read_alike(directory):
  expected = muse.read(directory, "privleak", "forget")
  rows = [{"text": text} for (text,) in expected]
  (directory / "privleak" / "lines.jsonl").write_text(
    "\n".join(json.dumps(row) for row in rows)
  )
  for number, part in enumerate((rows[:2], rows[2:])):
    path = directory / "privleak" / f"table-0000{number}-of-00002.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(part), path)
  for split in ("lines", "table"):
    assert muse.read(directory, "privleak", split) == expected


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (
      None,
      "a file knowmem/forget_qa with one of .json, .jsonl, .* in .*got none",
    ),
    ("[]", "rows in .*forget_qa.json, got none"),
    ("{}", "a list in .*forget_qa.json, got dict"),
    ("[1", "JSON in .*forget_qa.json, got something else"),
    ('["a"]', "texts as question and answer in .*forget_qa.json, row 1, got 'a'"),
    ('[{"question": "a", "answer": " "}]', "texts as question and answer in .*row 1"),
  ],
)
def test_wrong_files_are_one_line(directory, text, message):
  path = directory / "knowmem" / "forget_qa.json"
  path.unlink()
  if text is not None:
    path.write_text(text)
  with pytest.raises(ConfigError, match=message) as error:
    muse.read(directory, "knowmem", "forget_qa")
  assert "\n" not in str(error.value)
