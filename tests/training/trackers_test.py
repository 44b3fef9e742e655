"""What the tools keep of a run, read back by themselves."""

import struct
import time

import pytest

from undo_jax.training.writers import StageWriter, check
from undo_jax.utils import extras, files
from undo_jax.utils.types import ConfigError

STAGE = "base-0123456789ab"


@pytest.fixture
def stage(tmp_path, monkeypatch):
  """The directory of a stage in a workdir, and no variable that names a server."""
  for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
    monkeypatch.delenv(name, raising=False)
  directory = tmp_path / "it's" / "stages" / STAGE
  directory.mkdir(parents=True)
  return directory


def write(stage, name):
  """Write a run in two parts, the second one resumed after two updates."""
  for start, loss in ((0, 0.5), (2, 0.25)):
    writer = StageWriter(files.Mirror(stage), (name,), resume_step=start)
    assert writer._writers, f"{name} was left out"
    writer.write(start + 1, "train", loss=loss, note="no number")
    writer.write(start + 2, "evaluation", retain=loss + 0.25)
    writer.close()
    time.sleep(1.1 if name == "wandb" else 0)  # It names a part by its second.


EXPECTED = {
  "train/loss": [(1, 0.5), (3, 0.25)],
  "evaluation/retain": [(2, 0.75), (4, 0.5)],
}


def test_mlflow_has_the_rows(stage):
  pytest.importorskip("mlflow")
  from mlflow.tracking import MlflowClient

  write(stage, "mlflow")
  workdir = stage.parent.parent
  client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlflow.db")
  (run,) = client.search_runs([client.get_experiment_by_name("undo_jax").experiment_id])
  assert run.info.run_name == f"it-s-{STAGE}"
  for name, rows in EXPECTED.items():
    history = client.get_metric_history(run.info.run_id, name)
    assert sorted((m.step, m.value) for m in history) == rows
  assert list(stage.iterdir()) == []


def logged(content):
  """Yield the records of a LevelDB log, which W&B's files are behind seven bytes."""
  at, record = 7, b""
  while at + 7 <= len(content):
    left = -at % 32768  # Of the block.
    if 0 < left < 7:
      at += left
      continue
    _, size, kind = struct.unpack("<IHB", content[at : at + 7])
    record += content[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):  # Full, or the last part.
      yield record
      record = b""


def test_wandb_has_the_rows(stage):
  pytest.importorskip("wandb")
  from wandb.proto import wandb_internal_pb2

  write(stage, "wandb")
  by_stage = {}
  for path in sorted((stage.parent.parent / "wandb").glob("offline-run-*/*.wandb")):
    assert STAGE in path.name
    for data in logged(path.read_bytes()):
      record = wandb_internal_pb2.Record()
      record.ParseFromString(data)
      items = {
        item.key or ".".join(item.nested_key): item.value_json
        for item in record.history.item
      }
      for name in EXPECTED:
        if name in items:
          row = (int(items["_step"]), float(items[name]))
          by_stage.setdefault(name, []).append(row)
  assert by_stage == EXPECTED
  assert list(stage.iterdir()) == []


def test_trackio_has_the_rows(stage, monkeypatch):
  trackio = pytest.importorskip("trackio")
  from trackio.sqlite_storage import SQLiteStorage

  directory = trackio.utils.TRACKIO_DIR  # Chosen when it was imported.
  for module in list(vars(trackio).values()):
    if getattr(module, "TRACKIO_DIR", None) == directory:
      monkeypatch.setattr(module, "TRACKIO_DIR", stage.parent.parent / "trackio")
  write(stage, "trackio")
  rows = SQLiteStorage.get_logs("undo_jax", STAGE)
  by_stage = {
    name: [(row["step"], row[name]) for row in rows if name in row] for name in EXPECTED
  }
  assert by_stage == EXPECTED


def test_a_tracker_that_is_not_installed_is_told_before_the_run(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  for name in ("mlflow", "trackio", "wandb"):
    with pytest.raises(ConfigError, match=rf"undo-jax\[{name}\]") as error:
      check(name)
    assert "\n" not in str(error.value)
    assert extras.EXTRAS[name] == name
  check("jsonl")
