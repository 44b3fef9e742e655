"""A command of ours in a process of its own, as engines run it on whichever machine.

In and out go strings: JSON of the command's arguments, JSON of how it ended.
"""

from collections.abc import Collection, Iterator, Sequence
import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from undo_jax.engines.engine import Ended

# With the machine or the process that started it gone, it saves and ends.
_MAIN = (
  "from undo_jax.engines import worker; worker.end_with_parent(); "
  "from undo_jax import cli; cli.main()"
)


class Process:
  """A command that runs; as engine.Worker."""

  def __init__(self, arguments: Sequence[str], processors: Collection[int] = ()):
    """Start a command of undo-jax, on some of the processors or on all."""
    chosen = f"import os; os.sched_setaffinity(0, {sorted(processors)}); "
    self._process = subprocess.Popen(  # noqa: S603  The command of this one, no shell.
      [sys.executable, "-c", (chosen if processors else "") + _MAIN, *arguments],
      stdin=subprocess.PIPE,
      stderr=subprocess.PIPE,
      start_new_session=True,  # Signals reach it from here alone.
    )
    self._said = _Said(self._process)
    self._endings = [self._process.terminate, self._process.kill]

  def poll(self, *, seconds: float = 0.0) -> Ended | None:
    """Return how it ended; pass on its output, waiting for some seconds."""
    running = self._process.poll() is None
    self._said.forward(seconds=seconds if running else 0.0)
    return None if running else Ended(self._process.returncode, self._said.last)

  def terminate(self) -> None:
    """Tell it to save and end; kill it at the second call."""
    if self._endings:
      self._endings.pop(0)()


def run(arguments: str) -> str:
  """Run a command of undo-jax to its end.

  Whatever would end this process (SIGTERM, KeyboardInterrupt, what a library raises
  when time is up) makes the command save and end; a second time kills it.

  Args:
    arguments: of undo-jax, a JSON list.

  Returns:
    JSON of `status`, the exit status or minus the signal's number, and `line`, the last
    that it said.
  """
  process, ended = Process(json.loads(arguments)), None
  with _sigterm_raises():
    while ended is None:
      try:
        ended = process.poll(seconds=0.2)
      except BaseException:  # noqa: BLE001
        process.terminate()
  return json.dumps(dataclasses.asdict(ended))


class _Said:
  """What a process says: passed on, and the last line kept."""

  def __init__(self, process: "subprocess.Popen[bytes]"):
    assert process.stderr is not None
    self._file, self._rest, self.last = process.stderr, b"", ""
    os.set_blocking(self._file.fileno(), False)

  def forward(self, *, seconds: float) -> None:
    """Pass on what there is; if there is nothing, wait for some seconds.

    Not until the end of the pipe: a process of its own may hold it for longer.
    """
    end = time.monotonic() + seconds
    while True:
      select.select([self._file], [], [], max(end - time.monotonic(), 0.0))
      data = self._file.read()
      if not data:  # Nothing, or the end of the pipe.
        time.sleep(max(end - time.monotonic(), 0.0) if data == b"" else 0.0)
        return
      sys.stderr.write(data.decode(errors="replace"))
      sys.stderr.flush()
      *lines, self._rest = (self._rest + data).split(b"\n")
      complete = [line.strip() for line in (*lines, self._rest) if line.strip()]
      self.last = complete[-1].decode(errors="replace") if complete else self.last


def end_with_parent() -> None:
  """From now on SIGTERM comes when the process that started this one has ended."""

  def watch() -> None:
    while os.read(0, 1):
      pass
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=watch, daemon=True).start()


def where() -> str:
  """Return JSON of this host's `address` and a free `port` of it."""
  with socket.socket() as free:
    free.bind(("", 0))
    port = free.getsockname()[1]
  return json.dumps({"address": _address(), "port": port})


def _address() -> str:
  """Return the address by which this host reaches others."""
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
      probe.connect(("10.255.255.255", 1))  # Nothing is sent.
      return probe.getsockname()[0]
    except OSError:
      return "127.0.0.1"


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
  """Inside, SIGTERM raises an exception, where this is the main thread."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def handle(number, frame) -> None:
    del frame
    raise InterruptedError(number)

  before = signal.signal(signal.SIGTERM, handle)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, before)
