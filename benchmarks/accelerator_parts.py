"""The parts of `accelerator`, each a process of its own that may fail or take too long.

It is forked before JAX has started, so that what is imported is imported once; a GPU or
TPU is free again when it has ended.
"""

import contextlib
import dataclasses
import importlib
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import time
import traceback

from benchmarks.accelerator_common import Row, Setting, short

MODULES = {
  "device": "benchmarks.accelerator_jax",
  "small": "benchmarks.accelerator_jax",
  "tests": "benchmarks.accelerator_jax",
  "train": "benchmarks.accelerator_jax",
  "torch": "benchmarks.accelerator_torch",
}


@dataclasses.dataclass(frozen=True)
class Part:
  """What one process measures."""

  kind: str
  size: str = ""

  @property
  def name(self) -> str:
    """What the table and the log call it."""
    return f"{self.kind} {self.size}".strip()


def measure(
  part: Part, setting: Setting, directory: pathlib.Path, limit: float
) -> list[Row]:
  """Run a part for at most `limit` seconds.

  Returns:
    Its rows; the last tells what ended it, if it did not come to its end.
  """
  path = directory / "part.jsonl"
  path.unlink(missing_ok=True)
  start = time.monotonic()
  process = multiprocessing.get_context("fork").Process(
    target=_work, args=(part, setting, path, directory / "log.txt")
  )
  process.start()
  process.join(limit)
  failure = None
  if process.is_alive():
    failure = f"stopped after {limit:.0f} s, which was its time"
    with contextlib.suppress(ProcessLookupError):  # It leads no group yet.
      os.killpg(process.pid, signal.SIGKILL)  # With what it has started.
    process.kill()
    process.join()
  elif process.exitcode:
    failure = f"its process ended with status {process.exitcode}; see log.txt"
  rows = _read(path)
  if failure:
    rows.append({"what": part.name, "note": failure})
  seconds = time.monotonic() - start
  print(f"{part.name}: {seconds:.0f} s", file=sys.stderr)
  return [{**row, "part_seconds": seconds} for row in rows]


def _work(part: Part, setting: Setting, path: pathlib.Path, log: pathlib.Path) -> None:
  """Is the process of a part."""
  os.setsid()
  with open(log, "a") as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
  print(f"# {part.name}", flush=True)

  def report(row: Row) -> None:
    """Hand a row over at once, since the process may be stopped."""
    with open(path, "a") as file:
      file.write(json.dumps(row) + "\n")

  try:
    module = importlib.import_module(MODULES[part.kind])
    getattr(module, part.kind)(part.size, setting, report)
  except Exception as error:  # noqa: BLE001
    traceback.print_exc()
    report({"what": part.name, "note": short(error)})
  sys.stdout.flush()
  os._exit(0)


def _read(path: pathlib.Path) -> list[Row]:
  """Return the rows of a part; one that was cut off is not there."""
  rows = []
  for line in path.read_text().splitlines() if path.exists() else ():
    with contextlib.suppress(json.JSONDecodeError):
      rows.append(json.loads(line))
  return rows
