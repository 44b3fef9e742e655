"""Files that are written whole or not at all."""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
from typing import Any, TextIO

from undo_jax.types import ConfigError


@contextlib.contextmanager
def new_file(path: pathlib.Path) -> Iterator[TextIO]:
  """Gives a text file to write, which becomes `path` when all went well.

  A kill leaves the old file or the new one, never a part; an error the old one.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(temporary, "w", encoding="utf-8") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file; a kill leaves the old one or the new one, never a part."""
  with new_file(path) as file:
    file.write(text)


def write_bytes(path: pathlib.Path, data: bytes) -> None:
  """Writes a binary file; a kill leaves the old one or the new one, never a part."""
  with new_file(path) as file:
    file.buffer.write(data)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON, whole or not at all; NaN and infinity are refused."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def new_directory(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a directory to fill, which becomes `path` when all went well.

  A kill leaves nothing at `path`, at most a hidden directory beside it; an error
  leaves neither.

  Args:
    path: the directory to make, with its parents; may exist if it is empty.

  Yields:
    The hidden directory beside it.

  Raises:
    ConfigError: if `path` exists and is not empty, or cannot be created; before
      anything is written.
  """
  try:
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
      raise ConfigError(
        f"{path} exists already and is not overwritten; give another directory"
      )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # Of a killed process of this number.
    temporary.mkdir()
  except OSError as error:
    raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
  try:
    yield temporary
    for file in temporary.rglob("*"):
      if file.is_file():
        with open(file, "rb") as written:
          os.fsync(written.fileno())
    os.replace(temporary, path)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file."""
  return json.loads(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
  """Returns a value as JSON would give it back (tuples become lists)."""
  return json.loads(json.dumps(value))
