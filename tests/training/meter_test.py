"""Times and shares of a stage's updates, and the memory they take."""

import pytest

from undo_jax.training import meter as meter_lib


def test_an_update_is_timed_from_the_one_before_or_from_a_pause(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(meter_lib.time, "perf_counter", lambda: now[0])
  meter = meter_lib.Meter(tokens=600, flops=8_000, peak=10_000.0)
  with meter.input():
    now[0] += 0.5
  now[0] += 1.5
  row = meter.row()
  assert row["seconds"] == 2.0 and row["input_seconds"] == 0.5
  assert row["tokens_per_second"] == 300.0
  assert row["share_of_peak"] == pytest.approx(0.4)
  now[0] += 60.0  # An evaluation.
  meter.restart()
  now[0] += 4.0
  assert meter.row()["tokens_per_second"] == 150.0
  now[0] += 5.0
  assert meter.row(updates=10)["tokens_per_second"] == 1200.0
  assert "share_of_peak" not in meter_lib.Meter(tokens=1, flops=1, peak=None).row()


def test_memory_is_that_of_the_process_where_devices_are_the_cpu():
  with open("/proc/self/status") as status:
    (line,) = [line for line in status if line.startswith("VmRSS:")]
  assert meter_lib.memory_bytes() == pytest.approx(1024 * int(line.split()[1]), rel=0.1)
