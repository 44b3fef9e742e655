"""What documents a source is: its files in order, and options that are wrong."""

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
