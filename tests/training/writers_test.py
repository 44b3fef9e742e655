"""The writers that a config names, and the rates that a preparation tells."""

import json
import logging
import struct
import sys

import pytest
from tensorboardX.proto import event_pb2

from undo_jax.data.documents.preparation import Status
from undo_jax.training import writers
from undo_jax.training.writers import JsonlWriter, StageWriter, read_jsonl
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

THEIRS = """
from undo_jax.training.writers import WriterKind


class Lines:
  def __init__(self, mirror, resume_step):
    self.file = open(mirror.local / "lines.txt", "a")
    print("from", resume_step, file=self.file)

  def write(self, step, kind, **values):
    print(step, kind, *values.items(), file=self.file)

  def close(self):
    print("end", file=self.file)
    self.file.close()


class Broken(Lines):
  def write(self, step, kind, **values):
    super().write(step, kind, **values)
    raise RuntimeError(f"no answer at step {step}")


class Unclosed(Lines):
  def close(self):
    raise RuntimeError("never ends")


def refuse(mirror, resume_step):
  raise RuntimeError("no password")


LINES = WriterKind(open=Lines)
BROKEN = WriterKind(open=Broken)
UNCLOSED = WriterKind(open=Unclosed)
CLOSED = WriterKind(open=refuse)
NEEDED = WriterKind(open=Broken, is_needed=True)
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
  """A module of someone else, with writers."""
  (tmp_path / "their_writers.py").write_text(THEIRS)
  monkeypatch.syspath_prepend(tmp_path)
  yield "their_writers"
  sys.modules.pop("their_writers", None)


@pytest.fixture
def stage(tmp_path):
  """The directory of a stage."""
  (tmp_path / "stage").mkdir()
  return tmp_path / "stage"


def write(stage, *names, resume_step=0):
  """Write two rows by the writers of these names."""
  writer = StageWriter(files.Mirror(stage), names, resume_step=resume_step)
  writer.write(resume_step + 1, "train", loss=0.5)
  writer.write(resume_step + 2, "evaluation", retain=0.75)
  writer.close()


ROWS = [
  {"step": 1, "kind": "train", "loss": 0.5},
  {"step": 2, "kind": "evaluation", "retain": 0.75},
]


@pytest.mark.parametrize(
  ("names", "written"),
  [
    ((), []),
    (("jsonl",), ["metrics.jsonl"]),
    (("tensorboard",), ["tensorboard"]),
    (("jsonl", "tensorboard", "jsonl"), ["metrics.jsonl", "tensorboard"]),
  ],
)
def test_what_is_named_is_written(stage, names, written):
  write(stage, *names)
  assert sorted(path.name for path in stage.iterdir()) == written
  assert read_jsonl(stage / "metrics.jsonl") == ROWS * ("jsonl" in names)


def test_the_rows_of_a_run_that_goes_on_follow_those_before(stage):
  write(stage, "jsonl")
  write(stage, "jsonl", resume_step=2)
  steps = [(row["step"], row["kind"]) for row in read_jsonl(stage / "metrics.jsonl")]
  # The evaluation at the step that is resumed from is taken again.
  assert steps == [(1, "train"), (3, "train"), (4, "evaluation")]


def test_a_writer_may_be_someone_elses(stage, theirs):
  write(stage, "jsonl", f"{theirs}:LINES", resume_step=3)
  expected = "from 3\n4 train ('loss', 0.5)\n5 evaluation ('retain', 0.75)\nend\n"
  assert (stage / "lines.txt").read_text() == expected
  assert len(read_jsonl(stage / "metrics.jsonl")) == 2


@pytest.fixture
def warnings(monkeypatch, caplog):
  """Return what was logged as a warning so far."""
  monkeypatch.setattr(logging.getLogger("undo_jax"), "propagate", True)

  def so_far():
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

  return so_far


@pytest.mark.parametrize(
  ("name", "why"),
  [
    ("BROKEN", "no answer at step 1"),
    ("UNCLOSED", "never ends"),
    ("CLOSED", "no password"),
  ],
)
def test_a_writer_that_fails_is_told_once_and_left_out(
  stage, theirs, warnings, name, why
):
  name = f"{theirs}:{name}"
  write(stage, name, "jsonl")
  assert read_jsonl(stage / "metrics.jsonl") == ROWS
  (line,) = warnings()
  assert name in line and line.endswith(f"RuntimeError: {why}")


def test_a_writer_that_is_needed_ends_the_run_where_it_fails(stage, theirs, warnings):
  with pytest.raises(RuntimeError, match="no answer at step 1"):
    write(stage, "jsonl", f"{theirs}:NEEDED")
  assert not warnings()


def test_a_full_disk_ends_the_run(stage, monkeypatch):
  writer = StageWriter(files.Mirror(stage), ("jsonl", "tensorboard"), resume_step=0)

  def fail(*args, **values):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(writers.JsonlWriter, "write", fail)
  with pytest.raises(OSError, match="No space left"):
    writer.write(1, "train", loss=0.5)
  writer.close()


@pytest.mark.parametrize(
  "name", ["json", "their_writers:Lines", "their_writers:MORE", "no_such_module:LINES"]
)
def test_what_is_no_writer_is_told_in_one_line(stage, theirs, name):
  with pytest.raises(ConfigError) as error:
    StageWriter(files.Mirror(stage), ("jsonl", name), resume_step=0)
  assert name in str(error.value) and "\n" not in str(error.value)
  assert not list(stage.iterdir())


def test_ours_are_known_by_name():
  assert list(writers.REGISTRY) == [
    "jsonl",
    "mlflow",
    "tensorboard",
    "trackio",
    "wandb",
  ]


def test_rates_of_each_source_are_logged(monkeypatch, caplog):
  now = [100.0]
  monkeypatch.setattr(writers.time, "monotonic", lambda: now[0])
  monkeypatch.setattr(logging.getLogger("undo_jax"), "propagate", True)
  caplog.set_level(logging.INFO, "undo_jax")
  progress = writers.Preparation("preparing")
  for source in ("forget", "retain"):
    for step in range(4):
      now[0] += 20.0 * bool(step)
      progress(
        Status(
          source=source,
          documents=100 * step,
          tokens=4000 * step,
          num_bytes=1,
          file_bytes=10**6 * step,
          total_bytes=3 * 10**6,
        )
      )
  progress.close()
  assert [record.getMessage() for record in caplog.records] == [
    line
    for source in ("forget", "retain")
    for line in (
      f"preparing: {source}: 0 of 3 megabytes",
      f"preparing: {source}: 1/3 megabytes, 0.1/s, 00:40 left  "
      "100 documents, 5/s; 4000 tokens, 200/s",
      f"preparing: {source}: 2/3 megabytes, 0.1/s, 00:20 left  "
      "200 documents, 5/s; 8000 tokens, 200/s",
      f"preparing: {source}: 3/3 megabytes, 0.1/s, 00:00 left  "
      "300 documents, 5/s; 12000 tokens, 200/s",
      f"preparing: {source}: 3/3 megabytes, 0.1/s, 00:00 left  "
      "300 documents, 5/s; 12000 tokens, 200/s",
    )
  ]


def test_a_failed_rewrite_of_the_metrics_keeps_them(tmp_path, monkeypatch):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "kind": "train"}\n')

  def fail(*args):
    raise OSError("killed")

  monkeypatch.setattr("os.replace", fail)
  with pytest.raises(OSError, match="killed"):
    JsonlWriter(path, resume_step=0)
  assert read_jsonl(path) == [{"step": 1, "kind": "train"}]


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
  path = tmp_path / "metrics.jsonl"
  rows = [{"step": 1, "kind": "train"}, {"step": 2, "kind": "train"}]
  path.write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 3, "ki')
  assert read_jsonl(path) == rows
  JsonlWriter(path, resume_step=1).close()
  assert read_jsonl(path) == rows[:1]


@pytest.mark.parametrize(
  "line", [b"\xff", b"{", b"1", b"[" * 100_000, b'{"kind": "a"}', b'{"step": "1"}', b""]
)
def test_a_damaged_line_is_named(tmp_path, line):
  path = tmp_path / "metrics.jsonl"
  row = b'{"step": 1, "kind": "train"}'
  path.write_bytes(b"\n".join([row, line, row, b""]))
  with pytest.raises(ConfigError, match=rf"{path}, line 2 is damaged"):
    JsonlWriter(path, resume_step=9)


def events(path):
  """The records of a file of events: length, its checksum, data, its checksum."""
  data, read = path.read_bytes(), []
  while data:
    (size,) = struct.unpack("<Q", data[:8])
    read.append(event_pb2.Event.FromString(data[12 : 12 + size]))
    data = data[16 + size :]
  return read


def test_scalars_reach_tensorboard_without_tensorflow(tmp_path):
  writer = StageWriter(files.Mirror(tmp_path), ("tensorboard",), resume_step=3)
  writer.write(4, "train", loss=0.5, seconds=2.0)
  writer.write(5, "train", loss=0.25, seconds=2.0)  # Within the same second.
  writer.write(5, "evaluation", retain=0.75)
  writer.close()
  (path,) = (tmp_path / "tensorboard").iterdir()
  written = events(path)
  assert written[0].file_version == "brain.Event:2"
  scalars = {(e.step, v.tag): v.simple_value for e in written for v in e.summary.value}
  assert scalars == {
    (4, "train/loss"): 0.5,
    (4, "train/seconds"): 2.0,
    (5, "evaluation/retain"): 0.75,
  }
