"""How fast a stage trains: time, tokens, share of the peak, memory, time in input."""

from collections.abc import Iterator
import contextlib
import functools
import time

import jax
import jax.numpy as jnp
import psutil

_SIDE = 512  # Of the matrices whose product is timed on a CPU.


class Meter:
  """Times the updates of a stage, each from the end of the one before.

  Args of the constructor, all of one update over all processes:
    tokens: positions that go through the trained model.
    flops: see frontier.compute.
    peak: FLOPs a second of all devices; None: not known, no share is told.
  """

  def __init__(self, *, tokens: int, flops: int, peak: float | None):
    self._tokens, self._flops, self._peak = tokens, flops, peak
    self._input = 0.0
    self.restart()

  def restart(self) -> None:
    """Begins anew, after something that was not an update."""
    self._last = time.perf_counter()

  @contextlib.contextmanager
  def input(self) -> Iterator[None]:
    """Counts the time inside as that of reading and placing a batch."""
    start = time.perf_counter()
    yield
    self._input = time.perf_counter() - start

  def row(self, *, updates: int = 1) -> dict[str, float]:
    """Returns what an update took, or several as one program, when it is done.

    "seconds" since what was before; "tokens_per_second"; "share_of_peak" of the
    devices, if their peak is known; "input_seconds" that the host was busy with the
    batch, of which the devices wait for what exceeds an update; "memory_bytes" at
    most of this process's fullest device since the start, or of the process where
    the devices are the CPU.
    """
    now = time.perf_counter()
    seconds = max(now - self._last, 1e-9)
    self._last = now
    row = {"seconds": seconds, "tokens_per_second": updates * self._tokens / seconds}
    if self._peak:
      row["share_of_peak"] = updates * self._flops / seconds / self._peak
    return row | {"input_seconds": self._input, "memory_bytes": memory_bytes()}


def memory_bytes() -> int:
  """Returns the most memory in use; see Meter.row."""
  found = [device.memory_stats() for device in jax.local_devices()]
  if any(stats is None for stats in found):
    return _process().memory_info().rss
  return max(stats["peak_bytes_in_use"] for stats in found if stats)


@functools.cache
def _process() -> psutil.Process:
  return psutil.Process()


@functools.cache
def matmul_flops_per_second() -> float:
  """Returns the fastest of some float32 matrix products here, FLOPs a second.

  What stands for the peak of a CPU, whose datasheet says none: that of the cores this
  process may use, not of a device, since devices of a CPU share them.
  """
  device = jax.local_devices()[0]
  x = jax.device_put(jnp.ones((_SIDE, _SIDE), jnp.float32), device)
  product = jax.jit(jnp.matmul)
  product(x, x).block_until_ready()
  times = []
  for _ in range(5):
    start = time.perf_counter()
    product(x, x).block_until_ready()
    times.append(time.perf_counter() - start)
  return 2 * _SIDE**3 / min(times)
