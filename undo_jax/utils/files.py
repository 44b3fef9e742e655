"""Files that are written whole or not at all, on this machine or in a store.

A path like gs://bucket/run is one of a store of objects. There a file appears under
its name when its upload is complete, so a kill leaves either the old one or the new
one; but a directory is only a prefix of names, and cannot be renamed. So directories
that must be whole are made on this machine and copied, and the file that marks them as
whole (done.json) is written last.
"""

import atexit
from collections.abc import Iterator
import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
import secrets
import shutil
import tempfile
import time
from typing import Any, TextIO, TypeAlias

from etils import epath
import fsspec.config
import fsspec.core

from undo_jax.utils import extras
from undo_jax.utils.types import ConfigError, JsonObject

_CHECKSUM = "checksum"  # A field of records: of their other fields.
LEFT_SECONDS = 3600.0  # Nothing is written for so long.
Path: TypeAlias = pathlib.Path | epath.Path


def path(text: str | os.PathLike[str]) -> Path:
  """Return the path that a user gives: absolute, or one of a store.

  Raises:
    ConfigError: if what the store needs is not installed.
  """
  if not is_remote(text):
    return pathlib.Path(text).expanduser().resolve()
  # Other processes write there too: what is not there must be asked for again.
  fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
  location = epath.Path(text)
  try:
    location.exists()
  except (ImportError, NotImplementedError) as error:
    raise ConfigError(
      f"{text} cannot be used: {error}; for gs:// do {extras.install('gcs')}"
    ) from None
  return location


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Whether a path is one of a store, and no file of this machine."""
  return "://" in os.fspath(path)


def copy_tree(source: Path, target: Path) -> None:
  """Copy a directory's files, to or from a store; `target` is made where needed."""
  for file in tree(source):
    to = target / os.fspath(file)[len(os.fspath(source)) :].lstrip("/")
    if isinstance(to, pathlib.Path):
      to.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as opened, to.open("wb") as written:
      shutil.copyfileobj(opened, written)


def remove_tree(directory: Path) -> None:
  """Remove a directory with all that is in it, if it is there."""
  epath.Path(directory).rmtree(missing_ok=True)


def tree(directory: Path) -> list[Path]:
  """Return all files under a directory, in order."""
  nested = ([*tree(x)] if x.is_dir() else [x] for x in directory.iterdir())
  return sorted(file for files in nested for file in files)


@functools.cache
def here(directory: Path) -> pathlib.Path:
  """Return a local directory with the content of a finished one: itself, or a copy.

  A copy is made once in each process and deleted when the process ends.
  """
  if isinstance(directory, pathlib.Path):
    return directory
  copy = _temporary()
  copy_tree(directory, copy)
  return copy


def _temporary() -> pathlib.Path:
  """Return a new local directory that is deleted when the process ends."""
  directory = tempfile.mkdtemp(prefix="undo_jax_")
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  return pathlib.Path(directory)


class Mirror:
  """A local directory whose files are copied to a store from time to time.

  It is for writers that append to files, which stores cannot do. A local directory is
  its own mirror.
  """

  SECONDS = 30.0

  def __init__(self, directory: Path):
    """Take the directory; a store's is first filled by `sync`."""
    self._directory, self._last = directory, time.monotonic()
    self.name, self.is_local = directory.name, isinstance(directory, pathlib.Path)
    self._copied: dict[pathlib.Path, int] = {}  # The time each was last changed.
    if isinstance(directory, pathlib.Path):
      self.local = directory
    else:
      self.local = _temporary()

  def fetch(self, name: str) -> None:
    """Bring a file from the store, if it is there."""
    file = self._directory / name
    if self.local != self._directory and file.exists():
      (self.local / name).write_bytes(file.read_bytes())

  def sync(self, *, now: bool = False) -> None:
    """Copy what has changed to the store, unless that was done in the last SECONDS."""
    due = now or time.monotonic() - self._last >= self.SECONDS
    if not due or self.local == self._directory:
      return
    for file in (path for path in self.local.rglob("*") if path.is_file()):
      changed = file.stat().st_mtime_ns
      if self._copied.get(file) != changed:
        target = self._directory / file.relative_to(self.local).as_posix()
        target.write_bytes(file.read_bytes())
        self._copied[file] = changed
    self._last = time.monotonic()


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
  """Give a text file to write, which becomes `path` when all went well.

  A kill leaves the old file or the new one, never a part; an error the old one.
  """
  if not isinstance(path, pathlib.Path):
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as file:
      yield file
      file.flush()
      path.write_bytes(file.buffer.getvalue())
    return
  with _temporary_beside(path) as temporary:
    with open(temporary, "w", encoding="utf-8") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
  """Write a text file; a kill leaves the old one or the new one, never a part."""
  with new_file(path) as file:
    file.write(text)


def write_bytes(path: Path, data: bytes) -> None:
  """Write a binary file; a kill leaves the old one or the new one, never a part."""
  with new_file(path) as file:
    file.buffer.write(data)


def create(path: Path, data: bytes) -> bool:
  """Write a whole file that does not exist yet; only one of several processes does.

  On a disk this is a hard link, which its server makes or refuses; in a store an
  upload that is refused if the name is taken.

  Returns:
    Whether the file now holds `data`. A lost answer looks like a refusal, so the
    content decides.
  """
  try:
    if isinstance(path, pathlib.Path):
      with _temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        _link(temporary, path)
    else:
      store, name = fsspec.core.url_to_fs(os.fspath(path))
      store.pipe_file(name, data, mode="create")
  except FileExistsError:
    return path.read_bytes() == data
  return True


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  """Give a file a second name, which must be free."""
  try:
    os.link(source, target)
  except FileExistsError:
    raise
  except OSError:  # A disk without hard links: seen before it is whole, but one's own.
    with open(target, "xb") as file:
      file.write(source.read_bytes())


@contextlib.contextmanager
def _temporary_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Give a name beside a file, whose folder is made; nothing is left there."""
  path.parent.mkdir(parents=True, exist_ok=True)
  # Machines that share a disk may have processes of the same number.
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
  try:
    yield temporary
  finally:
    temporary.unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> None:
  """Remove temporary files that killed processes have left on this machine's disks.

  Only files older than an hour: a younger one may still be being written.
  """
  if not isinstance(directory, pathlib.Path):
    return
  for file in directory.rglob(".*.tmp"):
    with contextlib.suppress(OSError):  # Another process was faster, or may not.
      if file.is_file() and time.time() - file.stat().st_mtime > LEFT_SECONDS:
        file.unlink()


def update(path: Path, data: bytes) -> None:
  """Write a file as `write_bytes` does, unless it holds this already."""
  if not (path.exists() and path.read_bytes() == data):
    write_bytes(path, data)


def write_json(path: Path, value: object) -> None:
  """Write JSON, whole or not at all; NaN and infinity are refused."""
  write_text(path, _json(value))


def create_json(path: Path, value: object) -> bool:
  """Write JSON where no file is; see `create`."""
  return create(path, _json(value).encode())


def write_record(path: Path, value: JsonObject) -> None:
  """Write a JSON object with a checksum of it, which `read_record` compares."""
  write_json(path, value | {_CHECKSUM: _checksum(value)})


def update_json(path: Path, value: object) -> None:
  """Write JSON as `write_json` does, unless the file holds this already."""
  update(path, _json(value).encode())


def _json(value: object) -> str:
  return json.dumps(value, indent=2, allow_nan=False) + "\n"


@contextlib.contextmanager
def new_directory(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Give a directory to fill, which becomes `path` when all went well.

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


def read_json(path: Path) -> Any:
  """Read a JSON file.

  Raises:
    ValueError: if it is not JSON, or nested implausibly deeply.
  """
  if isinstance(path, pathlib.Path) and path.exists() and not path.is_file():
    raise ValueError("it is no file")  # Reading a pipe or a device never ends.
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except RecursionError:
    raise ValueError("its objects and lists are nested too deeply") from None


def read_object(path: Path) -> JsonObject:
  """Read a JSON object that a user gives.

  Raises:
    ConfigError: if the file cannot be read or holds something else.
  """
  try:
    value = read_json(path)
  except (ValueError, OSError) as error:
    raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
  if not isinstance(value, dict):
    raise ConfigError(f"{path} must hold a JSON object, got {type(value).__name__}")
  return value


def read_optional(path: Path) -> JsonObject:
  """Read a JSON object that a user may give; none is an empty one.

  Raises:
    ConfigError: as `read_object`; so it is of a link to nothing, or of a pipe.
  """
  return read_object(path) if os.path.lexists(path) else {}


_MEND = (
  "bring it back from a copy, or delete it (of a stage: the stage's directory) and "
  "start again"
)


def read_record(path: Path) -> JsonObject:
  """Read a JSON object that a run has written, without its checksum if it has one.

  Raises:
    ConfigError: if it is gone, is not a JSON object, or not the one that was written.
  """
  try:
    record = read_json(path)
  except FileNotFoundError:
    raise ConfigError(f"{path} is gone; {_MEND}") from None
  except ValueError as error:
    raise _damaged(path, str(error)) from None
  if not isinstance(record, dict):
    raise _damaged(path, str(record))
  checksum = record.pop(_CHECKSUM, None)
  if checksum is not None and checksum != _checksum(record):
    raise _damaged(path, "one whose checksum differs")
  return record


def _checksum(value: JsonObject) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, got: str) -> ConfigError:
  return ConfigError(
    f"{path} is damaged, expected the JSON object that was written, got: {got:.80}; "
    f"{_MEND}"
  )


def plain(value: object) -> Any:
  """Return a value as JSON would give it back (tuples become lists)."""
  return json.loads(json.dumps(value))
