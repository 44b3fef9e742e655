"""SHA-256 of files that a run has written, to detect changes by a disk.

A failing disk silently returns other bytes, and other bytes are valid weights too. A
core takes a second for 1.2 GB (an Intel Xeon with SHA instructions).
"""

import hashlib

from undo_jax.utils.errors import ConfigError
from undo_jax.utils.files import Path


def of_file(path: Path) -> str:
  """Return the checksum of a file's content, read piece by piece."""
  with path.open("rb") as opened:
    return hashlib.file_digest(opened, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def is_intact(path: Path, checksum: str) -> bool:
  """Whether a file is there, can be read and has this checksum."""
  try:
    return path.is_file() and of_file(path) == checksum  # No pipe is waited for.
  except OSError:  # Not there, or on a part of the disk that cannot be read.
    return False


def damaged(path: Path) -> ConfigError:
  """Return the error of a stage's file that is not as it was written."""
  return ConfigError(
    f"{path} is not as it was written: the disk has changed it; bring it back from a "
    "copy, or delete the directory of its stage to run that again"
  )
