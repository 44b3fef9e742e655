"""What a run ran on, and the host's settings that make it fast."""

import ctypes
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import threading
from typing import Any

import jax

from undo_jax.utils import files

PACKAGES = (
  "undo_jax jax jaxlib flax optax orbax-checkpoint grain tensorflow-datasets "
  "ml-collections numpy sentencepiece tokenizers"
).split()

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Blocks from here on come from the kernel and go back to it: kept, a few of such a size
# leave holes of it in the heap, which grows by gigabytes from update to update.
_KERNELS_BYTES = 1 << 30


def keep_freed_memory() -> bool:
  """Tells glibc to keep freed memory for the next allocation.

  XLA's CPU client allocates its temporaries anew at each execution; by default
  glibc gives them back to the kernel, and the page faults cost up to a third of
  a small step. Blocks of a gigabyte and more, which real models have, still go
  back. Does nothing for another C library or where the user has set glibc's
  MALLOC_ variables.

  Returns:
    Whether the settings were made.
  """
  if any(name.startswith("MALLOC_") for name in os.environ):
    return False
  if platform.libc_ver()[0] != "glibc":
    return False
  mallopt = ctypes.CDLL(None).mallopt
  settings = (
    (_M_MMAP_THRESHOLD, _KERNELS_BYTES),
    (_M_TRIM_THRESHOLD, 2**31 - 1),
    (_M_ARENA_MAX, 1),
  )
  return all(mallopt(name, value) == 1 for name, value in settings)


def return_freed_memory() -> None:
  """Gives what was freed back to the kernel, of glibc by malloc_trim.

  For the start of a stage: what was read or held before it leaves gigabytes that its
  own blocks need not fit into.
  """
  if platform.libc_ver()[0] == "glibc":
    ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
  """The largest resident memory of this process and its children during a block.

  `bytes` is it after the block; the sum over processes, sampled ten times a second.
  Memory that processes share counts once for each of them; what only one sample of
  several saw does not count, since a child is its parent's double until it executes.
  """

  def __enter__(self) -> "PeakMemory":
    import psutil

    self.bytes = 0
    self._process = psutil.Process()
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._sample, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._stop.set()
    self._thread.join()

  def _sample(self) -> None:
    import psutil

    previous = None
    while True:
      total = 0
      for process in (self._process, *self._process.children(recursive=True)):
        try:
          total += process.memory_info().rss
        except psutil.NoSuchProcess:  # It has ended meanwhile.
          continue
      if previous is not None:
        self.bytes = max(self.bytes, min(previous, total))
      previous = total
      if self._stop.wait(0.1):
        self.bytes = self.bytes or total
        return


def describe() -> dict[str, Any]:
  """Returns versions, devices and the commit of the code, for environment.json."""
  devices = jax.devices()
  return {
    "python": platform.python_version(),
    "platform": platform.platform(),
    "cpu_count": os.cpu_count(),
    "packages": {name: _version(name) for name in PACKAGES},
    "devices": {"kind": devices[0].device_kind, "count": len(devices)},
    "processes": jax.process_count(),
    "commit": _commit(),
  }


def record(workdir: files.Path) -> None:
  """Writes what runs, and on what: environment.json and command.txt."""
  if jax.process_index():  # The first process writes.
    return
  files.write_json(workdir / "environment.json", describe())
  files.write_text(workdir / "command.txt", command() + "\n")


def command() -> str:
  """Returns the command line of this process."""
  return " ".join([pathlib.Path(sys.executable).name, *sys.orig_argv[1:]])


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _commit():
  here = pathlib.Path(__file__).parent
  try:
    found = subprocess.run(
      ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True
    )
  except OSError:  # No git here.
    return None
  return found.stdout.strip() or None
