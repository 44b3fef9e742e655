"""Labelled images: scikit-learn's 8x8 digits, or IDX or TFDS files of a directory."""

import gzip
import pathlib
from typing import Any, NamedTuple

import numpy as np

from undo_jax.utils import extras
from undo_jax.utils.types import ConfigError

_TEST_SHARE = 0.2  # Of scikit-learn's digits, which come in one piece.
_IDX_BYTES = 0x08  # The IDX type of unsigned bytes.


class Images(NamedTuple):
  """Training and test images, pixels in [-1, 1], one row an image."""

  train: np.ndarray  # float32 [images, pixels].
  train_labels: np.ndarray  # int32 [images], in [0, num_classes).
  test: np.ndarray
  test_labels: np.ndarray
  num_classes: int
  shape: tuple[int, ...]  # (height, width) or (height, width, 3): pixels in order.


def load(path: str) -> Images:
  """Return the images of a directory; of an empty path, scikit-learn's digits.

  Args:
    path: a directory of MNIST's four IDX files, gzipped or not, or one below which
      there is one prepared TFDS dataset with the features `image` and `label` and the
      splits `train` and `test`, in array_record files. Nothing is downloaded.

  Raises:
    ConfigError: if there is neither, or a file is broken; says what was expected.
  """
  if not path:
    return digits()
  directory = pathlib.Path(path)
  if not directory.is_dir():
    raise ConfigError(
      f"config.data.path: expected a directory, got {path!r}, which is none; leave it "
      "empty for scikit-learn's digits"
    )
  infos = sorted(directory.rglob("dataset_info.json"))
  if len(infos) == 1:
    return read_tfds(infos[0].parent)
  if len(infos) > 1:
    names = ", ".join(str(info.parent.relative_to(directory)) for info in infos)
    raise ConfigError(f"config.data.path: {path} holds {names}; name one of them")
  return read_idx(directory)


def digits() -> Images:
  """Return scikit-learn's 1,797 handwritten 8x8 digits, a fifth of them for testing.

  Raises:
    ConfigError: if scikit-learn is not installed.
  """
  try:
    from sklearn import datasets
  except ImportError:
    raise ConfigError(
      "config.data.path is empty, which means scikit-learn's digits, but scikit-learn "
      f"is not installed; {extras.install('studies')}, or give a directory of MNIST by "
      "--config.data.path=DIRECTORY"
    ) from None
  images, labels = datasets.load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(images))
  images, labels = (images[order] / 8 - 1).astype(np.float32), labels[order]
  test = round(_TEST_SHARE * len(images))
  labels = labels.astype(np.int32)
  return Images(images[test:], labels[test:], images[:test], labels[:test], 10, (8, 8))


def read_idx(directory: pathlib.Path) -> Images:
  """Return the images of four IDX files as MNIST names them.

  Raises:
    ConfigError: if one is missing or broken.
  """
  arrays = []
  for part in ("train", "t10k"):
    images, labels = (
      _idx(directory, f"{part}-{kind}") for kind in ("images", "labels")
    )
    if images.ndim != 3 or labels.shape != images.shape[:1]:
      raise ConfigError(
        f"{directory}: expected {part} images [number, height, width] and as many "
        f"labels, got {images.shape} and {labels.shape}"
      )
    arrays += [images, labels]
  return _images(*arrays)


def read_tfds(directory: pathlib.Path) -> Images:
  """Return the images of a prepared TFDS dataset.

  Raises:
    ConfigError: if it has no train and test split of `image` and `label`, lies in
      files that cannot be read without TensorFlow, or names code or places that are
      not its own (see tfds_directory).
  """
  from undo_jax.data import tfds_directory

  builder: Any = tfds_directory.open_builder(directory)  # Decorators hide its types.
  arrays = []
  for split in ("train", "test"):
    try:
      source = builder.as_data_source(split=split)
      examples = [(example["image"], example["label"]) for example in source]
      images, labels = zip(*examples, strict=True)
      arrays += [np.stack(images), np.asarray(labels)]
    except Exception as error:  # Of any kind: those of TFDS and of image files.
      raise ConfigError(
        f"{directory}: expected a TFDS dataset in array_record files with the splits "
        f"train and test of image and label ({' '.join(str(error).split())}); prepare "
        "it by tfds.builder(NAME, data_dir=..., file_format='array_record')"
      ) from error
  return _images(*arrays)


def _idx(directory, prefix):
  """Read the one IDX file whose name starts so: bytes, any number of axes."""
  matches = sorted(directory.glob(f"{prefix}*ubyte*"))
  if not matches:
    raise ConfigError(
      f"config.data.path: expected {prefix}-idx{'3' if 'images' in prefix else '1'}"
      f"-ubyte, or with .gz, in {directory}, or a TFDS dataset below it; found neither"
    )
  path = matches[0]
  try:
    opened = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
    with opened as file:
      content = file.read()
  except (OSError, EOFError) as error:
    raise ConfigError(f"{path} cannot be read: {error}") from None
  axes = content[3] if len(content) >= 4 else 0
  shape = tuple(np.frombuffer(content[4 : 4 + 4 * axes], ">u4").tolist())
  start = 4 + 4 * axes
  whole = len(shape) == axes and len(content) - start == np.prod(shape, dtype=np.int64)
  if content[:2] != b"\0\0" or content[2:3] != bytes([_IDX_BYTES]) or not whole:
    raise ConfigError(
      f"{path} is no IDX file of bytes, or was cut off: header {content[:4].hex()}, "
      f"shape {shape}, {len(content)} bytes"
    )
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _images(train, train_labels, test, test_labels):
  """Return bytes as images in [-1, 1]; a last axis of one channel is dropped."""
  shape = train.shape[1:3] if train.shape[-1] == 1 else train.shape[1:]

  def scale(images):
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat *= 2 / 255
    flat -= 1
    return flat

  train_labels, test_labels = (x.astype(np.int32) for x in (train_labels, test_labels))
  num_classes = 1 + int(max(train_labels.max(), test_labels.max()))
  return Images(
    scale(train), train_labels, scale(test), test_labels, num_classes, tuple(shape)
  )
