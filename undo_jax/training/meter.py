"""How fast a stage trains: time, tokens, share of the peak, memory, time in input."""

from collections.abc import Iterator
import contextlib
import functools
import time

import jax
import psutil


class Meter:
  """Times the updates of a stage, each from the end of the one before.

  Args of the constructor, all of one update over all processes:
    tokens: positions that go through the trained model.
    flops: see frontier.compute.training.
    peak: FLOPs a second of all devices; None: unknown, so no share is reported.
  """

  def __init__(self, *, tokens: int, flops: int, peak: float | None):
    self._tokens, self._flops, self._peak = tokens, flops, peak
    self._input = 0.0
    self.restart()

  def restart(self) -> None:
    """Begin anew, after something that was not an update."""
    self._last = time.perf_counter()

  @contextlib.contextmanager
  def input(self) -> Iterator[None]:
    """Count the time inside as that of reading and placing a batch."""
    start = time.perf_counter()
    yield
    self._input = time.perf_counter() - start

  def row(self, *, updates: int = 1) -> dict[str, float]:
    """Return the row of an update, or of several as one program, when it is done.

    "seconds" since the end of what came before; "tokens_per_second"; "share_of_peak"
    of the
    devices, if their peak is known; "input_seconds" in which the host was busy with
    the batch (devices wait only for what exceeds an update); "memory_bytes", the peak
    of this process's fullest device since the start or, where the devices are the CPU,
    of the process.
    """
    now = time.perf_counter()
    seconds = max(now - self._last, 1e-9)
    self._last = now
    row = {"seconds": seconds, "tokens_per_second": updates * self._tokens / seconds}
    if self._peak:
      row["share_of_peak"] = updates * self._flops / seconds / self._peak
    return row | {"input_seconds": self._input, "memory_bytes": memory_bytes()}


def memory_bytes() -> int:
  """Return the most memory in use; see Meter.row."""
  all_stats = [device.memory_stats() for device in jax.local_devices()]
  if any(stats is None for stats in all_stats):
    return _process().memory_info().rss
  return max(stats["peak_bytes_in_use"] for stats in all_stats if stats)


@functools.cache
def _process() -> psutil.Process:
  return psutil.Process()
