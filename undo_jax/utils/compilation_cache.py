"""JAX's persistent compilation cache, in a directory of the user's.

A run compiles a program for each kind of stage, shape and rate, which takes longer
than training a small stage; the next process, seed or run that needs the same program
reads it. The contents of the directory are executed, so nobody else may write there.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import stat
from typing import Any

import jax

_MAX_BYTES = 2 << 30  # What was read longest ago goes first.
_MIN_SECONDS = 0.2  # Programs that compile faster are not worth a file.


def use() -> pathlib.Path | None:
  """Keep compiled programs below $XDG_CACHE_HOME or ~/.cache, and find them there.

  JAX's own variables decide first: JAX_COMPILATION_CACHE_DIR names another directory,
  JAX_ENABLE_COMPILATION_CACHE=false switches it off. Processors of other kinds have
  directories of their own, since what is compiled for one may not run on another. Call
  it before the first compilation.

  Returns:
    The directory; None where it was chosen by JAX's variables, cannot be written or
    belongs to somebody else, in which case everything is compiled anew.
  """
  config: Any = jax.config
  if config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
    return None
  home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path("~/.cache").expanduser()
  path = pathlib.Path(home) / "undo_jax" / f"compiled-{_processor()}"
  try:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    is_ours = _is_ours(path)
  except (OSError, RuntimeError):  # No home, or one that is full or read-only.
    is_ours = False
  if not is_ours:
    return None
  for name, value in {
    "jax_compilation_cache_dir": str(path),
    "jax_compilation_cache_max_size": _MAX_BYTES,
    "jax_persistent_cache_min_compile_time_secs": _MIN_SECONDS,
  }.items():
    jax.config.update(name, value)
  _remove_unfinished(path)
  return path


def _remove_unfinished(path: pathlib.Path) -> None:
  """Remove programs that a killed process has written only in part.

  JAX writes the time of reading last and holds a lock until then.
  """
  import filelock

  with contextlib.suppress(OSError, filelock.Timeout):
    with filelock.FileLock(path / ".lockfile", timeout=10):
      for program in path.glob("*-cache"):
        if not program.with_name(f"{program.name[:-6]}-atime").exists():
          program.unlink()


def _is_ours(path: pathlib.Path) -> bool:
  """Whether only this user can write there."""
  status = path.stat()
  others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
  return not others and status.st_uid == os.getuid() and os.access(path, os.W_OK)


def _processor() -> str:
  """Return a name of what this machine's processors can execute."""
  features = ""
  try:
    for line in pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines():
      if line.startswith(("model name", "flags", "Features")):
        features += line
      elif not line:  # The end of the first.
        break
  except OSError:  # Not Linux.
    features = platform.processor()
  return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:8]
