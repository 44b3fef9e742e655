"""Leases: which process works on a directory, until it ends.

    DIRECTORY/1.json 2.json ...

A lease is the file with the next free number, made by the first process that tries
(see files.create), on a disk or in a store. A thread of its holder rewrites it every
BEAT_SECONDS. A lease is over when its file says so; when its process is gone from this
machine; or when an observer that looks again and again has seen no change for
EXPIRY_SECONDS of its own clock, so clocks of machines are never compared. Then one
process can make the next number.

No number is made twice and no file is removed, so a holder that was paused notices the
next number. It may write as long as `is_held` says so. Between that answer and a write
it could be paused again; no file system prevents that.
"""

from collections.abc import Callable
import json
import logging
import os
import pathlib
import secrets
import socket
import threading
import time

from undo_jax.utils import files
from undo_jax.utils.types import JsonObject

LOGGER = logging.getLogger("undo_jax")
BEAT_SECONDS = 10.0
EXPIRY_SECONDS = 60.0


class LeaseLost(Exception):  # noqa: N818
  """Another process works on the directory now: nothing more may be written to it."""


class Lease:
  """One process's lease on a directory, or its view of who has it."""

  def __init__(
    self,
    directory: files.Path,
    *,
    beat_seconds: float = BEAT_SECONDS,
    expiry_seconds: float = EXPIRY_SECONDS,
  ):
    """Take nothing yet.

    Args:
      directory: of the files; made by the first lease.
      beat_seconds: between two signs of life.
      expiry_seconds: without one, after which a lease is over; the same in all
        processes.
    """
    self._directory, self._beat, self._expiry = directory, beat_seconds, expiry_seconds
    self._number = 0  # The last that is known; ours if we hold it.
    self._is_ours = False
    self._renewed = 0.0  # When the last sign of life was begun.
    self._lock = threading.Lock()
    self._keeper: tuple[threading.Thread, threading.Event] | None = None
    self._content: JsonObject = {}
    self._observed = _Observed(beat_seconds)

  @property
  def holder(self) -> str:
    """The holder when the lease was last read, for messages."""
    return self._observed.content.get("holder") or "another process"

  def take(self) -> bool:
    """Take the lease if nobody has it; return whether it is held now."""
    if self._is_ours or self.is_taken():
      return self._is_ours
    self._end_keeper()
    self._content = _describe()
    begun, number = _own_seconds(), self._number + 1
    if not files.create(self._path(number), self._text(0)):
      return False
    self._number, self._renewed, self._is_ours = number, begun, True
    stop = threading.Event()
    thread = threading.Thread(target=self._keep, args=(stop,), daemon=True)
    self._keeper = thread, stop
    thread.start()
    return True

  def is_taken(self) -> bool:
    """Whether another process has the lease, as far as is known by now."""
    while self._path(self._number + 1).exists():
      self._number += 1
    if not self._number:
      return False
    quiet = self._observed.seconds(self._number, _read(self._path(self._number)))
    content = self._observed.content
    return not (
      content.get("is_over") or quiet >= self._expiry or _is_gone_from_here(content)
    )

  def is_held(self, *, ask: bool = False) -> bool:
    """Whether the lease is still held.

    Without `ask` the files are read only if the last renewal is so old that another
    process might soon take the lease.
    """
    age = _own_seconds() - self._renewed
    if self._is_ours and (ask or age > self._expiry / 2):
      with self._lock:
        self._renew()
    return self._is_ours

  def release(self) -> None:
    """End the lease, if it is held."""
    self._end_keeper()
    if self._is_ours:
      self._content["is_over"] = True
      self._renew()
    self._is_ours = False

  def _end_keeper(self) -> None:
    if self._keeper is not None:
      thread, stop = self._keeper
      stop.set()
      thread.join()
    self._keeper = None

  def _keep(self, stop: threading.Event) -> None:
    """Renew the lease regularly, until it ends or is lost."""
    while self._is_ours and not stop.wait(self._beat):
      with self._lock:
        self._renew()

  def _renew(self) -> None:
    """Write the file again, and see whether the lease is still ours."""
    if not self._is_ours:
      return
    begun, path = _own_seconds(), self._path(self._number)
    try:
      is_there = path.exists()
      if is_there:
        files.write_bytes(path, self._text(self._content["beat"] + 1))
      # After the write: on disks of a network it makes this machine look again.
      self._is_ours = is_there and not self._path(self._number + 1).exists()
      self._renewed = begun
    except Exception as error:  # noqa: BLE001  Each store has errors of its own.
      LOGGER.warning("%s cannot be written now: %s", path, error)
      # Until others may take it, the lease is ours.
      self._is_ours = begun - self._renewed < self._expiry

  def _text(self, beat: int) -> bytes:
    self._content["beat"] = beat
    return (json.dumps(self._content, indent=2) + "\n").encode()

  def _path(self, number: int) -> files.Path:
    return self._directory / f"{number}.json"


class _Observed:
  """How long an observer has seen no change of a lease."""

  def __init__(self, step: float):
    # Between two looks, at most so many seconds count: a process that was paused
    # itself has not watched.
    self._step = step
    self._last, self._seconds, self._seen = 0.0, 0.0, (0, b"")
    self.content: JsonObject = {}

  def seconds(self, number: int, data: bytes) -> float:
    """Take what is read now; return for how long nothing else was read."""
    now = time.monotonic()
    if self._seen != (number, data):
      self._seen, self._seconds, self.content = (number, data), 0.0, _parsed(data)
    else:
      self._seconds += min(now - self._last, self._step)
    self._last = now
    return self._seconds


def _read(path: files.Path) -> bytes:
  """Return the file's content; nothing if it is being written in this moment."""
  try:
    return path.read_bytes()
  except FileNotFoundError:
    return b""


def _parsed(data: bytes) -> JsonObject:
  try:
    content = json.loads(data)
  except ValueError:  # It is being written, on a disk that shows that.
    return {}
  return content if isinstance(content, dict) else {}


def _describe() -> JsonObject:
  """Return what a lease says of its holder."""
  since = time.strftime("%Y-%m-%d %H:%M:%S")
  return {
    "holder": f"process {os.getpid()} of {socket.gethostname()} since {since}",
    "machine": _machine(),
    "process": os.getpid(),
    "started": _started(os.getpid()),
    "token": secrets.token_hex(16),
    "is_over": False,
    "beat": 0,
  }


def _is_gone_from_here(content: JsonObject) -> bool:
  """Whether the holder was a process of this machine that has ended."""
  if content.get("machine") != _machine():
    return False
  number, started = content.get("process"), content.get("started")
  if not isinstance(number, int) or number < 1:
    return False
  try:
    os.kill(number, 0)
  except ProcessLookupError:
    return True
  except OSError:  # Another user's.
    pass
  # The number may be another process's by now.
  return None not in (started, now := _started(number)) and now != started


def _machine() -> str:
  """Return an identifier shared by all processes whose numbers are comparable."""
  parts: list[str] = [socket.gethostname()]
  readers: tuple[Callable[[], str], ...] = (
    lambda: pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    lambda: os.readlink("/proc/self/ns/pid"),  # Containers count on their own.
  )
  for read in readers:
    try:
      parts.append(read())
    except OSError:  # No Linux.
      parts.append("")
  return " ".join(parts)


def _started(number: int) -> str | None:
  """Return when a process was started, in ticks since boot.

  "" if it has ended and is not yet waited for; None if the system does not say.
  """
  try:
    status = pathlib.Path(f"/proc/{number}/stat").read_text()
  except OSError:
    return None
  state, *fields = status.rpartition(")")[2].split()
  return "" if state in "ZX" else fields[18]


def _own_seconds() -> float:
  """Return a clock that goes on while the machine sleeps, where there is one."""
  clock = getattr(time, "CLOCK_BOOTTIME", None)
  return time.monotonic() if clock is None else time.clock_gettime(clock)
