"""Images from scikit-learn, IDX and TFDS files: the same pixels, or a clear error."""

import gzip
import io
import struct
import sys

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from undo_jax.data import images
from undo_jax.utils.types import ConfigError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)
GREYS = RNG.integers(0, 256, (6, 4, 5), np.uint8)
LABELS = np.array([0, 3, 1, 2, 3, 0], np.uint8)


class Pictures(tfds.core.GeneratorBasedBuilder):
  """Four training and two test pictures."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    features = {
      "image": tfds.features.Image(shape=(4, 5, 3)),
      "label": tfds.features.ClassLabel(num_classes=4),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      "train": self._generate_examples(0, 4),
      "test": self._generate_examples(4, 6),
    }

  def _generate_examples(self, start, end):
    for row in range(start, end):
      png = io.BytesIO()  # Which TFDS takes as it is; arrays need TensorFlow.
      Image.fromarray(COLOURS[row]).save(png, "PNG")
      png.seek(0)
      yield row, {"image": png, "label": int(LABELS[row])}


def write_idx(path, array):
  header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
  content = header + array.tobytes()
  path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(directory, end=""):
  for part, rows in (("train", slice(4)), ("t10k", slice(4, 6))):
    write_idx(directory / f"{part}-images-idx3-ubyte{end}", GREYS[rows])
    write_idx(directory / f"{part}-labels-idx1-ubyte{end}", LABELS[rows])


def check(data, pictures):
  expected = (pictures.astype(np.float64) / 127.5 - 1).reshape(6, -1)
  np.testing.assert_allclose(data.train, expected[:4], atol=1e-6)
  np.testing.assert_array_equal(data.train_labels, LABELS[:4])
  np.testing.assert_allclose(data.test, expected[4:], atol=1e-6)
  np.testing.assert_array_equal(data.test_labels, LABELS[4:])
  assert data.num_classes == 4 and data.train.dtype == np.float32


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_files(end, tmp_path):
  write_mnist(tmp_path, end)
  data = images.load(str(tmp_path))
  check(data, GREYS)
  assert data.shape == (4, 5)


def test_a_prepared_tfds_dataset_is_found_below_the_directory(tmp_path):
  Pictures(data_dir=tmp_path, file_format="array_record").download_and_prepare()
  data = images.load(str(tmp_path))
  # TFDS decides on the order in which it writes.
  order = [
    int(np.argmin(np.abs(COLOURS / 127.5 - 1 - row.reshape(4, 5, 3)).sum((1, 2, 3))))
    for row in data.train
  ]
  assert sorted(order) == [0, 1, 2, 3]
  expected = (COLOURS[order] / 127.5 - 1).reshape(4, -1)
  np.testing.assert_allclose(data.train, expected, atol=1e-6)
  np.testing.assert_array_equal(data.train_labels, LABELS[order])
  assert sorted(data.test_labels) == sorted(LABELS[4:])
  assert data.shape == (4, 5, 3)
  info = next(tmp_path.rglob("dataset_info.json"))
  info.write_text(info.read_text().replace("array_record", "tfrecord"))
  with pytest.raises(ConfigError, match="file_format='array_record'"):
    images.load(str(tmp_path))


def test_sklearns_digits_are_split_and_scaled():
  from sklearn import datasets

  data = images.load("")
  whole, labels = datasets.load_digits(return_X_y=True)
  rows = np.concatenate([data.train, data.test])
  assert len(data.test) == 359 and rows.shape == whole.shape
  # Every digit once, with its own label.
  mine = np.column_stack([8 * rows + 8, np.append(data.train_labels, data.test_labels)])
  theirs = np.column_stack([whole, labels])
  np.testing.assert_array_equal(mine[np.lexsort(mine.T)], theirs[np.lexsort(theirs.T)])
  assert rows.min() == -1 and rows.max() == 1
  assert np.bincount(data.test_labels).min() > 25  # All ten are in the test set.


def test_what_is_missing_or_broken_is_named(tmp_path, monkeypatch):
  with pytest.raises(ConfigError, match="expected train-images-idx3-ubyte"):
    images.load(str(tmp_path))
  with pytest.raises(ConfigError, match="leave it empty for scikit-learn's digits"):
    images.load(str(tmp_path / "none"))
  write_mnist(tmp_path)
  path = tmp_path / "t10k-images-idx3-ubyte"
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(ConfigError, match="was cut off: header 00000803, shape .2, 4, 5"):
    images.load(str(tmp_path))
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[studies\]'"):
    images.load("")
