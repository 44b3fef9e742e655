"""Peak memory counts this process and its children, while they live."""

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
