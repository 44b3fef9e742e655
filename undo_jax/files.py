"""Files that are written whole or not at all."""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
from typing import Any


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file; a kill leaves the old one or the new one, never a part."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  with open(temporary, "w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON, whole or not at all; NaN and infinity are refused."""
  write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def new_directory(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a directory to fill, which becomes `path` when all went well.

  A kill leaves nothing at `path`, at most a hidden directory beside it; an error
  leaves neither.

  Args:
    path: the directory to make; its parents are made too.

  Yields:
    The hidden directory beside it.

  Raises:
    OSError: if the path exists when the directory is done, or cannot be written.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  shutil.rmtree(temporary, ignore_errors=True)  # Of a killed process of this number.
  temporary.mkdir()
  try:
    yield temporary
    for file in temporary.iterdir():
      with open(file, "rb") as written:
        os.fsync(written.fileno())
    os.rename(temporary, path)
  except BaseException:
    shutil.rmtree(temporary, ignore_errors=True)
    raise


def read_json(path: pathlib.Path) -> Any:
  """Reads a JSON file."""
  return json.loads(path.read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
  """Returns a value as JSON would give it back (tuples become lists)."""
  return json.loads(json.dumps(value))
