"""Peak memory counts this process and its children, while they live."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from undo_jax.utils import environment

CHILD = "x = bytearray(200_000_000); import time; time.sleep(1)"


@pytest.mark.processes
def test_peak_memory_is_that_of_all_processes():
  with environment.PeakMemory() as before:
    pass
  with environment.PeakMemory() as memory:
    child = subprocess.Popen([sys.executable, "-c", CHILD])
    held = np.ones(100_000_000, np.uint8)
    child.wait()
    del held
  assert 300e6 < memory.bytes - before.bytes < 400e6


# Takes and gives back blocks of the sizes that follow, as an update of a model does;
# prints the resident bytes after each.
BLOCKS = """
import ctypes, psutil, sys
from undo_jax.utils import environment
assert environment.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
for size in map(int, sys.argv[1:]):
  block = libc.malloc(size)
  assert block
  ctypes.memset(block, 1, size)
  libc.free(block)
  print(psutil.Process().memory_info().rss)
environment.return_freed_memory()
print(psutil.Process().memory_info().rss)
"""


def resident_after(*sizes):
  done = subprocess.run(
    [sys.executable, "-c", BLOCKS, *map(str, sizes)],
    capture_output=True,
    text=True,
    env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")},
  )
  assert done.returncode == 0, done.stderr
  return [int(line) for line in done.stdout.split()]


@pytest.mark.processes
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_small_blocks_are_kept_and_those_of_a_gigabyte_go_back():
  first, kept, after, returned = resident_after(1 << 20, 200 << 20, 1100 << 20)
  assert kept - first > 190 << 20
  assert after - kept < 50 << 20
  assert (
    after - returned > 190 << 20
  )  # What was kept is given back when it is asked for.
