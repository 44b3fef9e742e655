"""Files that are written whole or not at all."""

import os

import pytest

from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "figure.png"
  files.write_bytes(path, b"\x00\xffold\r\n")

  def fail(*_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    files.write_bytes(path, b"new")
  assert path.read_bytes() == b"\x00\xffold\r\n"
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  "content", [b"", b'{"a": 1', b"[1]", b"null", b"\xff{}", b"{}}"]
)
def test_a_damaged_record_is_named(tmp_path, content):
  path = tmp_path / "done.json"
  path.write_bytes(content)
  with pytest.raises(ConfigError, match="done.json is damaged, expected the JSON"):
    files.read_record(path)
  files.write_json(path, {"a": 1})
  assert files.read_record(path) == {"a": 1}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_record_and_is_not_waited_for(tmp_path, make):
  path = tmp_path / "done.json"
  make(path)
  with pytest.raises(ConfigError, match="done.json is damaged, .* it is no file"):
    files.read_record(path)
  with pytest.raises(ConfigError, match=r"done\.json cannot be read .* it is no file"):
    files.read_optional(path)
  assert files.read_optional(tmp_path / "other.json") == {}


def test_a_record_with_another_value_than_was_written_is_named(tmp_path):
  path = tmp_path / "done.json"
  value = {"scores": {"retain": 0.25}, "updates": 3, "name": "é"}
  files.write_record(path, value)
  assert files.read_record(path) == value
  path.write_text(path.read_text().replace("0.25", "0.75"))
  with pytest.raises(ConfigError, match="done.json is damaged, .* checksum differs"):
    files.read_record(path)


def test_old_temporary_files_are_removed_and_no_others(tmp_path):
  names = ("a/.1.json.12ab.tmp", ".config.json.34cd.tmp", "a/b.tmp", "a/.1.json")
  for name in (*names, "a/.young.tmp"):
    files.write_text(tmp_path / name, "x")
    if name in names:
      os.utime(tmp_path / name, (0, 0))
  files.remove_leftovers(tmp_path)
  left = {str(path.relative_to(tmp_path)) for path in files.tree(tmp_path)}
  assert left == {"a/.young.tmp", "a/b.tmp", "a/.1.json"}
