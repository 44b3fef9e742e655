"""Files that are written whole or not at all."""

import os

import pytest

from undo_jax.utils import files


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
