"""Errors of disks and limits, by those that the system itself raises."""

import contextlib
import os
import resource

import pytest
import tensorstore

from undo_jax.utils import disks


def line_of(act):
  try:
    act()
  except Exception as error:  # noqa: BLE001  TensorStore raises ValueErrors.
    return disks.explain(error)
  pytest.fail("nothing was refused")


@contextlib.contextmanager
def limited(kind, number):
  soft, hard = resource.getrlimit(kind)
  resource.setrlimit(kind, (number, hard))
  try:
    yield
  finally:
    resource.setrlimit(kind, (soft, hard))


def test_a_full_disk(tmp_path):
  def write():
    with open("/dev/full", "w") as file:
      file.write("x")

  if not os.path.exists("/dev/full"):
    pytest.skip("no /dev/full")
  assert line_of(write).startswith("No space left on device; free some of it")


def test_a_name_that_is_too_long(tmp_path):
  path = tmp_path / ("x" * 300)
  said = line_of(path.mkdir)
  assert said.startswith(f"{path}: File name too long; give a shorter path")


def test_a_limit_on_open_files(tmp_path):
  with limited(resource.RLIMIT_NOFILE, 3):
    said = line_of(lambda: open(tmp_path / "a", "w"))
  assert said.startswith(f"{tmp_path}/a: Too many open files; raise")


def test_a_limit_on_the_size_of_files_as_checkpoints_meet_it(tmp_path):
  def write():
    spec = {"driver": "file", "path": f"{tmp_path}/"}
    tensorstore.KvStore.open(spec).result().write("a", b"x" * 5000).result()

  with limited(resource.RLIMIT_FSIZE, 1000):
    said = line_of(write)
  assert said.startswith(f"{tmp_path}/a") and ": File too large; raise" in said


def test_an_error_that_hides_behind_others(tmp_path):
  def write():
    try:
      (tmp_path / ("x" * 300)).mkdir()
    except OSError as error:
      group = ExceptionGroup("several", [ValueError("other"), error])
      raise RuntimeError("saving failed") from group

  assert "File name too long" in line_of(write)


def test_other_errors_are_none(tmp_path):
  assert line_of((tmp_path / "none").read_text) is None
  assert line_of(lambda: int("x")) is None
