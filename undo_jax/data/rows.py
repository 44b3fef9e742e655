"""Packed rows on disk: a TFDS dataset in array_record, read back at random."""

from collections.abc import Callable, Iterator, Mapping
import functools
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from undo_jax.data.packing import Row

# Splits of up to so many bytes are read once and kept in memory.
IN_MEMORY_BYTES = 256 * 2**20


class Rows(tfds.core.GeneratorBasedBuilder):
  """Rows of `length` + 1 tokens with their mask, one split per domain."""

  VERSION = tfds.core.Version("1.0.0")

  def __init__(
    self,
    *,
    length: int,
    splits: Mapping[str, Callable[[], Iterator[Row]]] | None = None,
    **kwargs: Any,
  ):
    self._length = length
    self._splits = splits or {}
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

  def _split_generators(self, dl_manager):
    del dl_manager
    return {name: self._examples(make()) for name, make in self._splits.items()}

  def _generate_examples(self):
    raise AssertionError("splits come from _split_generators")

  def _examples(self, rows: Iterator[Row]):
    for index, (tokens, mask) in enumerate(rows):
      yield index, {"tokens": tokens, "mask": mask}


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
  if not sys.stderr.isatty():
    tfds.disable_progress_bar()
  builder = Rows(length=length, splits=splits, data_dir=directory)
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
