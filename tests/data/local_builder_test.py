"""Tests of undo_jax.data.local_builder."""

import numpy as np
import tensorflow_datasets as tfds

from undo_jax.data import local_builder


class Numbers(local_builder.LocalBuilder):
  """Three numbers."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return local_builder.Info(
      builder=self, features=tfds.features.FeaturesDict({"number": np.int64})
    )

  def _split_generators(self, dl_manager):
    return {"train": ((n, {"number": n}) for n in range(3))}

  def _generate_examples(self):
    raise AssertionError("the split has its generator")


def test_a_dataset_is_written_without_a_word_and_once(tmp_path, capfd):
  builder = Numbers(data_dir=tmp_path)
  local_builder.prepare(builder)
  written = {
    file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.array_record*")
  }
  local_builder.prepare(Numbers(data_dir=tmp_path))
  assert "ownload" not in "".join(capfd.readouterr())
  assert written
  assert written == {file: file.stat().st_mtime_ns for file in written}
  assert sorted(row["number"] for row in builder.as_data_source("train")) == [0, 1, 2]


def test_nothing_is_left_behind_and_no_network_asked(tmp_path, monkeypatch):
  (temporary := tmp_path / "temporary").mkdir()
  monkeypatch.setattr("tempfile.tempdir", str(temporary))
  requests = []
  name = "tensorflow_datasets.core.utils.gcs_utils.gcs_dataset_info_files"
  monkeypatch.setattr(name, requests.append)
  local_builder.prepare(Numbers(data_dir=tmp_path / "data"))
  assert not list(temporary.iterdir()) and not requests
