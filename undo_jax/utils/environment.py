"""What a run ran on, and how much memory it took."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import threading

import jax

from undo_jax.utils import files
from undo_jax.utils.types import JsonObject

PACKAGES = (
  "undo_jax jax jaxlib flax optax orbax-checkpoint grain tensorflow-datasets "
  "ml-collections numpy optuna sentencepiece tokenizers"
).split()


class PeakMemory:
  """The largest resident memory of this process and its children during a block.

  `bytes` is it after the block; the sum over processes, sampled ten times a second.
  Memory that processes share counts once for each of them. A peak that only one sample
  saw does not count, since a new child looks like a copy of its parent until it
  executes.
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


def describe() -> JsonObject:
  """Return versions, devices and the commit of the code, for environment.json."""
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


def record(workdir: files.Path, *, is_part: bool = False) -> None:
  """Write environment.json and, for a whole run, command.txt."""
  if jax.process_index():  # The first process writes.
    return
  files.write_json(workdir / "environment.json", describe())
  if not is_part:
    record_command(workdir)


def record_command(workdir: files.Path) -> None:
  """Write command.txt."""
  files.write_text(workdir / "command.txt", command() + "\n")


def command() -> str:
  """Return the command line of this process."""
  return " ".join([pathlib.Path(sys.executable).name, *sys.orig_argv[1:]])


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _commit():
  here = pathlib.Path(__file__).parent
  try:
    process = subprocess.run(
      ["git", "rev-parse", "HEAD"],  # noqa: S607  The git of whoever runs this.
      cwd=here,
      capture_output=True,
      text=True,
    )
  except OSError:  # No git here.
    return None
  return process.stdout.strip() or None
