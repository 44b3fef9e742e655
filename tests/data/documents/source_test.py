"""What documents a source is: its files in order, and options that are wrong."""

import os

import pytest

from undo_jax.data.documents.source import Source, find
from undo_jax.utils.errors import ConfigError


def test_files_are_found_in_order_and_once(tmp_path):
  others = ("deep/skipped.png", "deep/read.py", ".hidden/d.txt")
  for name in ("b.txt", "a.txt", "deep/c.txt", *others):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
  (tmp_path / "with[1].txt").write_text("x")

  def names(*paths):
    matches = find([str(tmp_path / path) for path in paths])
    return [str(file.relative_to(tmp_path)) for file in matches]

  assert names(".") == ["a.txt", "b.txt", "deep/c.txt", "with[1].txt"]
  assert names("deep", "b.txt", "*.txt") == [
    "deep/c.txt",
    "b.txt",
    "a.txt",
    "with[1].txt",
  ]
  assert names("**/c.txt") == ["deep/c.txt"]
  assert names("**/*.py") == ["deep/read.py"]
  assert names("with[1].txt") == ["with[1].txt"]


def test_what_is_left_out_of_a_folder_is_told(tmp_path, caplog):
  for name in ("a.txt", "b.jsonl.gz", "deep.csv", ".hidden.csv", "read.me.md"):
    (tmp_path / name).write_text("x")
  assert find([str(tmp_path)]) == [tmp_path / "a.txt"]
  assert "2 files of other formats are left out (b.jsonl.gz)" in caplog.text


@pytest.mark.parametrize(
  ("make", "paths"),
  [
    ("link", ["folder"]),
    ("link", ["folder/*"]),
    ("pipe", ["folder"]),
    ("pipe", ["folder/b.txt"]),
    ("folder", ["folder"]),
  ],
)
def test_nothing_by_the_name_of_a_document_is_passed_over(
  tmp_path, monkeypatch, paths, make
):
  monkeypatch.chdir(tmp_path)
  folder, other = tmp_path / "folder", tmp_path / "other"
  folder.mkdir()
  other.mkdir()
  (folder / "a.txt").write_text("x")
  if make == "pipe":
    os.mkfifo(folder / "b.txt")
  else:
    (folder / "b.txt").symlink_to(other if make == "folder" else tmp_path / "gone")
  with pytest.raises(ConfigError, match=r"expected .*, got .*b\.txt"):
    find(paths)


@pytest.mark.parametrize("paths", [["none*.txt"], ["missing.txt"], ["empty"]])
def test_paths_that_match_nothing_are_named(tmp_path, monkeypatch, paths):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "empty").mkdir()
  with pytest.raises(ConfigError, match=f"none matches '{paths[0][:4]}"):
    find(paths)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"validation_fraction": 1.0}, "validation_fraction: .* got 1.0"),
    ({"max_tokens": 0}, "max_tokens: expected a positive integer or None, got 0"),
    ({"question_field": "q"}, "expected both or neither, got 'q' and None"),
    ({"paths": "a.txt"}, "expected a list of paths, got 'a.txt'"),
    ({"paths": []}, "expected a list of paths"),
    ({"paths": 3.0}, "expected a list of paths, got 3.0"),
    ({"validation_fraction": "a"}, "validation_fraction: .* got 'a'"),
    ({"text_field": None}, "text_field: expected the name of a field, got None"),
    ({"lines": "no"}, "lines: expected True or False, got 'no'"),
  ],
)
def test_wrong_options_are_named(options, message):
  with pytest.raises(ConfigError, match=message):
    Source(**({"paths": ["x"]} | options))
