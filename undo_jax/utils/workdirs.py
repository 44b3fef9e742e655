"""A run directory belongs to one config; a study's is used by one process at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import fcntl
import os
import pathlib
import socket
import time
from typing import Any, TypeAlias

from ml_collections import config_dict

from undo_jax.utils import files
from undo_jax.utils.types import ConfigError, JsonObject

Content: TypeAlias = JsonObject  # A config as JSON has it.
_SHOWN = 3  # Fields that differ, in a message.


def claim(
  workdir: files.Path,
  config: Mapping[str, Any] | config_dict.ConfigDict,
  *,
  free: Sequence[str],
  effective: Callable[[Content, Content], Content] = lambda config, other: config,
) -> None:
  """Make the run directory the config's own, or check that it is.

  Args:
    workdir: the directory, made with its parents if it is missing.
    config: of the run.
    free: top-level fields that may differ from those of the run that is there.
    effective: of (config, the other one) what must be equal in both.

  Raises:
    ConfigError: if the path looks like a glob, is no directory, cannot be written, or
      belongs to a run of another config; names the fields that differ.
  """
  path = workdir / "config.json"
  is_config = isinstance(config, config_dict.ConfigDict)
  mine = files.plain(config.to_dict() if is_config else dict(config))
  with _writing(workdir):
    if not path.exists():  # Of several runs that begin at once, one makes it.
      files.create_json(path, mine)
  theirs = files.read_record(path)
  old, new = (
    {name: value for name, value in compared.items() if name not in free}
    for compared in (effective(theirs, mine), effective(mine, theirs))
  )
  differing = _differences(old, new)
  if differing:
    raise ConfigError(
      f"--workdir {workdir} belongs to a run of another config, which differs in "
      + "; ".join(differing[:_SHOWN])
      + (f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else "")
      + f". Give another workdir, or the config of {path} to resume"
    )
  if theirs != mine:  # In what is free to change.
    files.write_json(path, mine)


class Hold:
  """Keeps other runs off a local run directory while this object lives.

  The kernel releases the lock when the process ends in any way. Stores, and disks
  without locks, are not protected.
  """

  def __init__(self, workdir: files.Path):
    self._workdir, self._file = workdir, -1

  def take(self) -> None:
    """Take the directory, made with its parents if it is missing.

    Raises:
      ConfigError: if another run has it; names its process. As `claim`, if it can be
        no run directory.
    """
    if not isinstance(self._workdir, pathlib.Path):
      return
    with _writing(self._workdir):
      path = self._workdir / ".lock"
    try:
      self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self.close()
      holder = path.read_text(encoding="utf-8").strip() or "another process"
      raise ConfigError(
        f"--workdir {self._workdir} is in use by {holder}; wait for it, end it, or "
        "give another workdir"
      ) from None
    except OSError:  # A disk without locks, or a finished run that is only read.
      return
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    owner = f"process {os.getpid()} of {socket.gethostname()} since {since}\n"
    os.truncate(self._file, 0)
    os.write(self._file, owner.encode())

  def close(self) -> None:
    """Let go of it."""
    if self._file >= 0:
      os.close(self._file)
    self._file = -1


@contextlib.contextmanager
def _writing(workdir: files.Path) -> Iterator[None]:
  """Make the directory for what is written inside; errors become ConfigErrors."""
  _check_name(workdir)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    yield
  except (
    FileExistsError,
    FileNotFoundError,  # Below /proc.
    NotADirectoryError,
    PermissionError,
  ) as error:
    raise ConfigError(
      f"--workdir must be a directory that can be written, got {workdir} "
      f"({error.strerror}); give another path"
    ) from error


def _check_name(workdir: files.Path) -> None:
  """Refuse names that Orbax takes for a glob: it would not find what it wrote."""
  name = os.path.abspath(workdir) if not files.is_remote(workdir) else str(workdir)
  if set(name) & set("*?[]\\"):
    raise ConfigError(
      f"--workdir must be a path without any of * ? [ ] \\, got {name}; checkpoints in "
      "it could not be read again. Give another path"
    )


def _differences(theirs: Content, mine: Content, prefix: str = "") -> list[str]:
  differing = []
  for name in sorted({*theirs, *mine}):
    old, new = theirs.get(name, "nothing"), mine.get(name, "nothing")
    if isinstance(old, dict) and isinstance(new, dict):
      differing += _differences(old, new, f"{prefix}{name}.")
    elif old != new:
      differing.append(f"config.{prefix}{name} ({old!r} there, {new!r} here)")
  return differing
