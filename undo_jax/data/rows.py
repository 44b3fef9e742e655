"""Packed rows on disk: a TFDS dataset in array_record, read back at random."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
import pathlib
import shutil
import sys
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from undo_jax.data.packing import Row
from undo_jax.errors import ConfigError

# Splits of up to so many bytes are read once and kept in memory.
IN_MEMORY_BYTES = 256 * 2**20
# Files of up to so many bytes, before compression.
SHARD_BYTES = 2**30
ROWS_AT_ONCE = 1024


class Rows(tfds.core.GeneratorBasedBuilder):
  """Rows of `length` + 1 tokens with their mask, one split per domain."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(
    self,
    *,
    length: int,
    splits: Sequence[str] = (),
    stream: Iterable[tuple[str, Row]] = (),
    **kwargs: Any,
  ):
    """Makes the builder; reading a dataset needs its length only.

    Args:
      length: L; each row has L + 1 tokens.
      splits: the names of the splits to write.
      stream: rows to write, each with its split's name, in any order of splits.
      **kwargs: of tfds.core.GeneratorBasedBuilder.
    """
    self._length = length
    self._splits = list(splits)
    self._stream = stream
    super().__init__(file_format="array_record", **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    shape = (self._length + 1,)
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          "tokens": tfds.features.Tensor(shape=shape, dtype=np.int32, encoding="bytes"),
          "mask": tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes"),
        }
      ),
      disable_shuffling=True,  # The order is the pipeline's.
    )

  def _download_and_prepare(self, dl_manager, download_config):
    """Writes the stream as it comes: nothing but open shards is in memory."""
    del dl_manager, download_config
    info = self._info()  # Of the temporary directory, unlike self.info.
    writer = tfds.core.SequentialWriter(
      info,
      max_examples_per_shard=max(1, SHARD_BYTES // (5 * (self._length + 1))),
      file_format="array_record",
    )
    writer.initialize_splits(self._splits)
    waiting: dict[str, list[dict[str, np.ndarray]]] = {
      name: [] for name in self._splits
    }
    for split, (tokens, mask) in self._stream:
      waiting[split].append({"tokens": tokens, "mask": mask})
      if len(waiting[split]) == ROWS_AT_ONCE:
        writer.add_examples({split: waiting[split]})
        waiting[split] = []
    writer.add_examples(waiting)
    writer.close_all()
    for name, split in info.splits.items():
      if not split.num_examples:
        raise ConfigError(
          f"expected rows for the split {name!r}, got none; give more documents"
        )
    self.info.set_splits(info.splits)

  def _log_download_bytes(self):
    """Says nothing: there is no download, and the size is not known before."""

  def _log_download_done(self):
    """Says nothing; whoever gives the stream tells how far it is."""

  def _split_generators(self, dl_manager):
    raise AssertionError("splits come from the stream")

  def _generate_examples(self):
    raise AssertionError("examples come from the stream")


def build(
  directory: pathlib.Path,
  *,
  length: int,
  splits: Mapping[str, Callable[[], Iterator[Row]]],
) -> dict[str, int]:
  """Writes the splits under `directory`; a finished dataset is left alone.

  Args:
    directory: where the dataset's folder goes.
    length: L; each row has L + 1 tokens.
    splits: for each split a function that starts its rows anew.

  Returns:
    The number of rows of each split.
  """
  stream = ((name, row) for name, make in splits.items() for row in make())
  return write(directory, length=length, splits=list(splits), stream=stream)


def write(
  directory: pathlib.Path,
  *,
  length: int,
  splits: Sequence[str],
  stream: Iterable[tuple[str, Row]],
) -> dict[str, int]:
  """Writes rows of several splits as they come; a finished dataset is left alone.

  The dataset appears whole or not at all; what a killed process left is removed.

  Args:
    directory: where the dataset's folder goes; one process writes it at a time.
    length: L; each row has L + 1 tokens.
    splits: the names of the splits.
    stream: the rows, each with its split's name; read only if there is no dataset.

  Returns:
    The number of rows of each split.

  Raises:
    ConfigError: if a split would have no rows.
  """
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  for left in directory.glob("rows/incomplete.*"):
    shutil.rmtree(left, ignore_errors=True)
  builder = Rows(length=length, splits=splits, stream=stream, data_dir=directory)
  builder.download_and_prepare()
  return {name: info.num_examples for name, info in builder.info.splits.items()}


@functools.lru_cache(maxsize=8)  # Every stage of a run reads the same few splits.
def source(directory: pathlib.Path, *, length: int, split: str) -> Any:
  """Returns random access to a split's rows, {"tokens", "mask"}.

  Small splits are read into memory once, which makes a batch five times as cheap;
  larger ones are read record by record.
  """
  builder: Any = Rows(length=length, data_dir=directory)
  records = builder.as_data_source(split=split)
  if len(records) * (length + 1) * 5 > IN_MEMORY_BYTES:
    return records
  return InMemory(records.__getitems__(list(range(len(records)))))


class InMemory:
  """Rows as two arrays; an item is a view of them."""

  def __init__(self, records: list[Mapping[str, np.ndarray]]):
    self.tokens = np.stack([record["tokens"] for record in records])
    self.mask = np.stack([record["mask"] for record in records])

  def __len__(self) -> int:
    return len(self.tokens)

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    return {"tokens": self.tokens[index], "mask": self.mask[index]}
