"""Splits whose documents the project makes itself: tokenized and packed in place."""

from collections.abc import Callable, Iterable, Sequence
import functools
import pathlib
from typing import Any, TypeVar

import numpy as np

from undo_jax.data import packing, rows, tokenizers
from undo_jax.tasks.task import Data
from undo_jax.training.writers import Progress
from undo_jax.utils.types import ConfigError, Rows

DIRECTORY = "rows"
T = TypeVar("T")


def pack(
  data: Data,
  directory: pathlib.Path,
  title: str,
  splits: Iterable[str],
  *,
  read: Callable[[str], Sequence[Any]],
  encode: Callable[[Any], Any],
) -> dict[str, int]:
  """Pack the documents of splits into rows, unless that is done already.

  Args:
    data: the config's: sequence_length, packing, tokenizer.
    directory: of the data stage.
    title: shown with the progress.
    splits: their names.
    read: a split's documents.
    encode: a document as packing.rows takes it.

  Returns:
    The number of rows of each split.
  """
  size, mode = data["sequence_length"], data["packing"]
  tokenizer = tokenizers.make(data["tokenizer"])

  def encoded(split):
    documents = read(split)
    progress = Progress(
      f"{title}: packing {split}", total=len(documents), initial=0, unit="document"
    )
    for document in documents:
      yield encode(document)
      progress.update(1)
    progress.close()

  def packed(split):
    return packing.rows(encoded(split), size, mode=mode, tokenizer=tokenizer)

  makers = {split: functools.partial(packed, split) for split in splits}
  return rows.build(directory / DIRECTORY, length=size, splits=makers)


def source(data: Data, directory: pathlib.Path, split: str) -> Rows:
  """Return random access to the rows of a split."""
  return rows.source(directory / DIRECTORY, length=data["sequence_length"], split=split)


def drawn(known: Sequence[T], count: int, seed: int) -> list[T]:
  """Return worked examples, drawn without repetition.

  Raises:
    ConfigError: if there are fewer.
  """
  if count > len(known):
    raise ConfigError(
      f"expected at most {len(known)} worked examples, which is all that the attacker "
      f"has, got {count}; ask for fewer in the attack's strengths"
    )
  order = np.random.default_rng(seed).permutation(len(known))
  return [known[index] for index in order[:count]]
