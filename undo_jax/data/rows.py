"""Packed rows on disk: a TFDS dataset in array_record, read back at random."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
import logging
import pathlib
import shutil
from typing import Any

from array_record.python import array_record_module  # pyright: ignore
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from undo_jax.data import local_builder
from undo_jax.data.packing import Row
from undo_jax.utils import types
from undo_jax.utils.errors import ConfigError

LOGGER = logging.getLogger("undo_jax")
# Splits of up to so many bytes are read once and kept in memory.
IN_MEMORY_BYTES = 256 * 2**20
# Files of up to so many bytes, before compression.
SHARD_BYTES = 2**30
ROWS_PER_RECORD = 64


class Rows(local_builder.LocalBuilder):
  """Rows of `length` + 1 tokens with their mask, one split per domain."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(
    self,
    *,
    length: int,
    splits: Sequence[str] = (),
    stream: Iterable[tuple[str, Row]] = (),
    **kwargs: object,
  ):
    """Make the builder; reading a dataset needs its length only.

    Args:
      length: L; each row has L + 1 tokens.
      splits: the names of the splits to write.
      stream: rows to write, each with its split's name, in any order of splits.
      **kwargs: of LocalBuilder.
    """
    self._length = length
    self._splits = list(splits)
    self._stream = stream
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    shape = (self._length + 1,)
    return local_builder.Info(
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
    """Write the stream as it comes: nothing but open shards is in memory."""
    del dl_manager, download_config
    writers = {name: _SplitWriter(self, name) for name in self._splits}
    for split, (tokens, mask) in self._stream:
      writers[split].write(tokens, mask)
    self.info.set_splits(tfds.core.SplitDict([w.close() for w in writers.values()]))

  def _split_generators(self, dl_manager):
    raise AssertionError("splits come from the stream")

  def _generate_examples(self):
    raise AssertionError("examples come from the stream")


class _SplitWriter:
  """Writes the rows of one split, shard by shard.

  TFDS's own writers buffer a gigabyte or, in SequentialWriter, give bytes that depend
  on the process: the order of the features in a record is not fixed there.
  """

  def __init__(self, builder: Rows, split: str):
    self._split = split
    self._template = tfds.core.ShardedFileTemplate(
      dataset_name=builder.name,
      data_dir=builder.data_path,
      split=split,
      filetype_suffix="array_record",
      template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
    )
    features: Any = builder.info.features
    self._serializer = example_serializer.ExampleSerializer(
      features.get_serialized_info()
    )
    length = features["tokens"].shape[0]
    self._rows_per_shard = max(1, SHARD_BYTES // (5 * length))
    row = {"tokens": np.zeros(length, np.int32), "mask": np.zeros(length, np.uint8)}
    self._row = features.encode_example(row)
    self._record: Any = None
    self._writer: Any = None
    self._shard_lengths: list[int] = []
    self._num_bytes = 0
    self._num_unscored = 0  # Rows that train nothing.

  def write(self, tokens: np.ndarray, mask: np.ndarray) -> None:
    """Append a row: int32 [L + 1], uint8 [L + 1]."""
    if self._writer is None or self._shard_lengths[-1] == self._rows_per_shard:
      self._close_shard()
      path = self._template.sharded_filepath(
        shard_index=len(self._shard_lengths), num_shards=None
      )
      self._writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
      self._shard_lengths.append(0)
    record = self._serialize({"tokens": tokens, "mask": mask})
    self._writer.write(record)
    self._shard_lengths[-1] += 1
    self._num_bytes += len(record)
    self._num_unscored += not mask[1:].any()

  def _serialize(self, row: Mapping[str, np.ndarray]) -> bytes:
    """Return a row's record, its features in alphabetical order."""
    # Filling a record is ten times as fast as making it; what it held before is only
    # freed with it.
    if self._shard_lengths[-1] % ROWS_PER_RECORD == 0:
      self._record = self._serializer.get_tf_example(self._row)
    fields = self._record.features.feature
    for name, array in row.items():
      fields[name].bytes_list.value[0] = array.tobytes()
    return self._record.SerializeToString(deterministic=True)

  def close(self) -> tfds.core.SplitInfo:
    """End the split; warns of rows without a token that is scored.

    Raises:
      ConfigError: if it has no rows, or none with a scored token.
    """
    self._close_shard()
    if not self._shard_lengths:
      raise ConfigError(
        f"expected rows for the split {self._split!r}, got none; give more documents"
      )
    self._check_scored(sum(self._shard_lengths))
    return tfds.core.SplitInfo(
      name=self._split,
      shard_lengths=self._shard_lengths,
      num_bytes=self._num_bytes,
      filename_template=self._template,
    )

  def _check_scored(self, num_rows: int) -> None:
    """Tell how many rows train nothing, as those that a long question fills."""
    cure = "raise data.sequence_length above the longest question"
    if self._num_unscored == num_rows:
      raise ConfigError(
        f"expected rows of the split {self._split!r} with scored tokens, got none in "
        f"{num_rows}; {cure}"
      )
    if self._num_unscored:
      LOGGER.warning(
        "%d of %d rows of the split %r have no token that is scored and train nothing; "
        "%s",
        self._num_unscored,
        num_rows,
        self._split,
        cure,
      )

  def _close_shard(self) -> None:
    if self._writer is not None:
      self._writer.close()
    self._writer = None


def build(
  directory: pathlib.Path,
  *,
  length: int,
  splits: Mapping[str, Callable[[], Iterator[Row]]],
) -> dict[str, int]:
  """Write the splits under `directory`; a finished dataset is left alone.

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
  """Write rows of several splits as they come; a finished dataset is left alone.

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
  for left in directory.glob("rows/incomplete.*"):
    shutil.rmtree(left, ignore_errors=True)
  with local_builder.intact(directory):
    builder = Rows(length=length, splits=splits, stream=stream, data_dir=directory)
  local_builder.prepare(builder)
  return {name: info.num_examples for name, info in builder.info.splits.items()}


@functools.lru_cache(maxsize=8)  # Every stage of a run reads the same few splits.
def source(directory: pathlib.Path, *, length: int, split: str) -> types.Rows:
  """Return random access to a split's rows, {"tokens", "mask"}.

  Small splits are read into memory once, which makes a batch five times as cheap;
  larger ones are read record by record.

  Raises:
    ConfigError: if the dataset's files are damaged.
  """
  with local_builder.intact(directory):
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


class Sample:
  """Some of the rows of a split, chosen by a seed; all where it has no more."""

  def __init__(self, rows: types.Rows, size: int, seed: int):
    """Choose so many rows."""
    self._rows = rows
    order = np.random.default_rng(seed).permutation(len(rows))
    self._chosen = np.sort(order[:size])

  def __len__(self) -> int:
    return len(self._chosen)

  def __getitem__(self, index: int) -> Any:
    return self._rows[int(self._chosen[index])]
