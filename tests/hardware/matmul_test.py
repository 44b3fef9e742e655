"""The speed of a matrix product, with a clock that is wound by hand."""

import types

import pytest

from undo_jax.hardware import matmul


def test_the_fastest_product_counts(monkeypatch):
  # The ends of three products, which take 2, 1 and 4 seconds.
  times = iter([10.0, 12.0, 20.0, 21.0, 30.0, 34.0])
  clock = types.SimpleNamespace(perf_counter=lambda: next(times))
  monkeypatch.setattr(matmul, "time", clock)
  speed = matmul.matmul_flops_per_second(size=8, repeats=3)
  assert speed == 2 * 8**3
  with pytest.raises(StopIteration):
    next(times)


def test_this_machine_multiplies():
  for dtype in ("float32", "bfloat16"):
    assert 1e7 < matmul.matmul_flops_per_second(dtype, size=64) < 1e15
