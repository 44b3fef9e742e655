"""Times and shares of a stage's updates, its trace and its events."""

import struct

import jax
import jax.numpy as jnp
import pytest
from tensorboardX.proto import event_pb2

from undo_jax.training import meter as meter_lib
from undo_jax.training.profiling import Profiler, parse_steps
from undo_jax.training.writers import StageWriter
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


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


def events(path):
  """The records of a file of events: length, its checksum, data, its checksum."""
  data, found = path.read_bytes(), []
  while data:
    (size,) = struct.unpack("<Q", data[:8])
    found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
    data = data[16 + size :]
  return found


def test_scalars_reach_tensorboard_without_tensorflow(tmp_path):
  writer = StageWriter(files.Mirror(tmp_path), ("tensorboard",), resume_step=3)
  writer.write(4, "train", loss=0.5, seconds=2.0)
  writer.write(5, "train", loss=0.25, seconds=2.0)  # Within the same second.
  writer.write(5, "evaluation", retain=0.75)
  writer.close()
  (path,) = (tmp_path / "tensorboard").iterdir()
  found = events(path)
  assert found[0].file_version == "brain.Event:2"
  scalars = {(e.step, v.tag): v.simple_value for e in found for v in e.summary.value}
  assert scalars == {
    (4, "train/loss"): 0.5,
    (4, "train/seconds"): 2.0,
    (5, "evaluation/retain"): 0.75,
  }


def test_chosen_updates_are_traced(tmp_path):
  profiler = Profiler(tmp_path, parse_steps("2:3"))
  traces = []
  for update in range(1, 5):
    profiler.before(update)
    profiler.after(update, jax.jit(jnp.sum)(jnp.ones(8)))
    traces.append(len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))))
  assert traces == [0, 0, 1, 1]


@pytest.mark.parametrize("text", ["", "3", "0:2", "4:3", "a:b", "-1:2"])
def test_steps_that_are_none_are_refused(text):
  with pytest.raises(ConfigError, match="--profile_steps: expected START:END"):
    parse_steps(text)
