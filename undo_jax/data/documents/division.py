"""One source's documents, as they come: to train or validation, and into rows."""

from collections.abc import Iterator, Mapping
import pathlib
from typing import NamedTuple

import numpy as np

from undo_jax.data import packing
from undo_jax.data.documents.encoding import Encoded
from undo_jax.data.documents.hashes import held_out
from undo_jax.data.documents.source import Source
from undo_jax.data.tokenizers import Tokenizer
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.json_types import JsonObject


class Status(NamedTuple):
  """How far the preparation of a source is.

  Attributes:
    source: its name.
    documents: read so far.
    tokens: of these documents.
    num_bytes: of these documents' texts, in UTF-8.
    file_bytes: of the files, read so far.
    total_bytes: of all of its files.
  """

  source: str
  documents: int
  tokens: int
  num_bytes: int
  file_bytes: int
  total_bytes: int


class Division:
  """Divides and packs; the order of documents decides, and nothing else."""

  def __init__(
    self,
    name: str,
    source: Source,
    hashes: pathlib.Path,
    *,
    length: int,
    packing_mode: str,
    tokenizer: Tokenizer,
    seed: int,
    total_bytes: int,
  ):
    """Begin without documents.

    Args:
      name: of the source.
      source: whose shares and limits hold.
      hashes: the directory for the hashes of each split's documents, "*.unsorted".
      length: L, of the rows.
      packing_mode: one of packing.MODES.
      tokenizer: whose special ids are added.
      seed: of the division.
      total_bytes: of the source's files.
    """
    self._name, self._source, self._seed = name, source, seed
    self._total_bytes = total_bytes
    self._hashes = {
      split: hashes / f"{name}_{split}.unsorted" for split in source.splits
    }
    self._packers = {
      split: packing.packer(length, mode=packing_mode, tokenizer=tokenizer)
      for split in source.splits
    }
    self._documents = dict.fromkeys(source.splits, 0)
    self._tokens = dict.fromkeys(source.splits, 0)
    self._scored = dict.fromkeys(source.splits, 0)
    self._left_out = {"empty": 0, "too_long": 0, "held_out": 0}
    self._held_out: set[int] = set()  # Hashes, where held-out splits can be full.
    self._read = self._num_tokens = self._num_bytes = self._file_bytes = 0
    for path in self._hashes.values():
      path.touch()

  @property
  def is_full(self) -> bool:
    """Whether the training split takes no more documents."""
    source = self._source
    return (
      source.max_documents is not None
      and self._documents["train"] >= source.max_documents
    ) or (source.max_tokens is not None and self._tokens["train"] >= source.max_tokens)

  @property
  def status(self) -> Status:
    """How far it is."""
    return Status(
      source=self._name,
      documents=self._read,
      tokens=self._num_tokens,
      num_bytes=self._num_bytes,
      file_bytes=self._file_bytes,
      total_bytes=self._total_bytes,
    )

  def add(self, encoded: Encoded) -> Iterator[tuple[str, packing.Row]]:
    """Yield (split of the dataset, row) for each row that is full now.

    Raises:
      ConfigError: if a document does not fit where each has a row of its own.
    """
    hashes = encoded.records["hash"]
    shares = {
      "validation": self._source.validation_fraction,
      "test": self._source.test_fraction,
    }
    names = ("train", *shares)
    splits = [names[i] for i in held_out(hashes, **shares, seed=self._seed)]
    chosen: dict[str, list[int]] = {split: [] for split in self._packers}
    end = 0
    for index, (size, prompt) in enumerate(
      zip(encoded.lengths.tolist(), encoded.prompts.tolist(), strict=True)
    ):
      begin, end = end, end + size
      split = self._choose(int(hashes[index]), splits[index], size)
      if split is None:
        continue
      chosen[split].append(index)
      room = self._room(split)
      ids = encoded.ids[begin : end if room is None else min(end, begin + room)]
      self._documents[split] += 1
      self._tokens[split] += len(ids)
      yield from self._rows(split, self._packers[split].add(_document(ids, prompt)))
      if self.is_full:
        break
    for split, indices in chosen.items():
      with open(self._hashes[split], "ab") as file:
        file.write(encoded.records[indices].tobytes())
    self._read += len(encoded.lengths)
    self._num_tokens += len(encoded.ids)
    self._num_bytes += encoded.num_bytes
    self._file_bytes += encoded.file_bytes
    self._left_out["empty"] += encoded.num_empty

  def _choose(self, text_hash: int, split: str, size: int) -> str | None:
    """Return the split of a document, or None where it is left out."""
    if size > (self._source.max_document_tokens or size):
      self._left_out["too_long"] += 1
      return None
    if split == "train" or self._source.validation_tokens is None:
      return split
    if self._room(split):
      self._held_out.add(text_hash)
      return split
    if text_hash in self._held_out:
      self._left_out["held_out"] += 1
      return None
    return "train"

  def _room(self, split: str) -> int | None:
    """Return how many tokens a split still takes; None: any number."""
    source = self._source
    largest = source.max_tokens if split == "train" else source.validation_tokens
    return None if largest is None else largest - self._tokens[split]

  def _rows(self, split: str, filled: Iterator[packing.Row]):
    try:
      for tokens, mask in filled:
        self._scored[split] += int(np.count_nonzero(mask[1:]))
        yield f"{self._name}_{split}", (tokens, mask)
    except ValueError as error:
      raise ConfigError(f"source {self._name!r}: {error}") from None

  def end(self) -> Iterator[tuple[str, packing.Row]]:
    """Yield the rows that are left when there are no more documents.

    Raises:
      ConfigError: if a split has no documents.
    """
    for split, packer in self._packers.items():
      if not self._documents[split]:
        mend = (
          "give more documents"
          if split == "train"
          else f"give more documents or raise {split}_fraction (0: no {split})"
        )
        raise ConfigError(
          f"source {self._name!r}: expected documents in {split}, got none of "
          f"{self._read}; {mend}"
        )
      yield from self._rows(split, packer.end())

  def counts(self, rows: Mapping[str, int]) -> JsonObject:
    """Return the counts that documents.json holds, see documents.prepare."""
    return {
      "documents": self._documents,
      "tokens": self._tokens,
      "rows": dict(rows),
      "scored_tokens": self._scored,
      "bytes": self._num_bytes,
      **self._left_out,
    }


def _document(ids: np.ndarray, prompt: int) -> packing.Document:
  """Return a document whose first tokens, the prompt, are not scored."""
  if not prompt:
    return ids
  return packing.Masked(ids, np.arange(len(ids)) >= prompt)
