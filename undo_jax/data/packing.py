"""From token documents to rows of equal length, and from rows to batches.

A row holds length + 1 tokens and a mask over them. Batches shift once, here:
inputs are tokens [0, length), targets tokens [1, length + 1). Special ids are added
here and are the tokenizer's; without a BOS, EOS alone separates documents.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from undo_jax.data.tokenizers import Tokenizer

MODES = ("one_per_row", "packed", "reference")
Row = tuple[np.ndarray, np.ndarray]


class Masked(NamedTuple):
  """A document of which only some tokens are scored.

  Attributes:
    ids: [n], without special ones.
    mask: [n], 1 where a token is scored as a target, else 0.
  """

  ids: Sequence[int] | np.ndarray
  mask: Sequence[int] | np.ndarray


# Ids without special ones; all are scored unless a mask says otherwise.
Document: TypeAlias = Sequence[int] | np.ndarray | Masked


class Packer(Protocol):
  """Takes documents one by one and gives the rows that they fill."""

  def add(self, document: Document) -> Iterator[Row]:
    """Yield the rows that a document completes."""
    ...

  def end(self) -> Iterator[Row]:
    """Yield the remaining rows after the last document."""
    ...


def rows(
  documents: Iterable[Document], length: int, *, mode: str, tokenizer: Tokenizer
) -> Iterator[Row]:
  """Pack documents (ids without special ones) into rows.

  Args:
    documents: ids, with a mask if not all of them are scored.
    length: L; rows hold L + 1 tokens.
    mode: one_per_row pads each document; packed joins them and keeps tails;
      reference is the rule of the UNDO paper's code, see `Reference`.
    tokenizer: whose special ids are added.

  Yields:
    (tokens int32 [L + 1], mask uint8 [L + 1]); the mask is 0 on pads and on what
    documents leave unscored. BOS is scored as the first token after it is, EOS as
    the last token before it.

  Raises:
    ValueError: on an unknown mode or, with one_per_row, a document that is longer
      than a row.
  """
  return _all(packer(length, mode=mode, tokenizer=tokenizer), documents)


def packer(length: int, *, mode: str, tokenizer: Tokenizer) -> Packer:
  """Return the packer of a mode; see `rows`."""
  known = {"one_per_row": OnePerRow, "packed": Packed, "reference": Reference}
  if mode not in known:
    raise ValueError(f"unknown packing {mode!r}; known are {', '.join(MODES)}")
  return known[mode](length, tokenizer)


def _all(packing: Packer, documents: Iterable[Document]) -> Iterator[Row]:
  for document in documents:
    yield from packing.add(document)
  yield from packing.end()


class OnePerRow:
  """BOS document EOS in a row each, padded; see `rows`."""

  def __init__(self, length: int, tokenizer: Tokenizer):
    self._length, self._tokenizer = length, tokenizer

  def add(self, document: Document) -> Iterator[Row]:
    """Yield the document's row."""
    ids, mask = _delimited(document, self._tokenizer)
    if len(ids) > self._length + 1:
      size = len(document.ids if isinstance(document, Masked) else document)
      raise ValueError(
        f"a document of {size} tokens does not fit a row of {self._length} with"
        " its BOS; raise data.sequence_length or use packing 'packed'"
      )
    row = _Row(self._length + 1, self._tokenizer.pad_id)
    row.fill(ids, mask)
    yield row.take()

  def end(self) -> Iterator[Row]:
    """Yield nothing."""
    return iter(())


class Packed:
  """Rows cut from BOS document EOS BOS document EOS ...; see `rows`.

  No token is lost: a document's tail opens the next row, and the last row is
  padded. Rows overlap by one token, so that every token is a target once.
  """

  def __init__(self, length: int, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._row = _Row(length + 1, tokenizer.pad_id)

  def add(self, document: Document) -> Iterator[Row]:
    """Yield the rows that the document completes."""
    ids, mask = _delimited(document, self._tokenizer)
    start = 0
    while start < len(ids):
      start += self._row.fill(ids[start:], mask[start:])
      if self._row.is_full:
        tokens, masks = self._row.take()
        yield tokens, masks
        self._row.fill(tokens[-1:], masks[-1:])

  def end(self) -> Iterator[Row]:
    """Yield the last row, if it has a target that no other has."""
    if self._row.size > 1:
      yield self._row.take()


class Reference:
  """Rows by the rule of the UNDO paper's public code.

  Documents are joined with BOS (EOS if there is no BOS) after each; the part of a
  document that does not fit into the row is thrown away, and so is the last unfinished
  row. Unlike in that code, masks are kept: the separator is scored as the document's
  last token in the row.

  Example: rows of 8, documents [11, 12, 13], [21..26], [31] (BOS is 2) begin with
  [11, 12, 13, 2, 21, 22, 23, 24]; 25 and 26 are lost.
  """

  def __init__(self, length: int, tokenizer: Tokenizer):
    separator = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    self._separator = np.asarray([separator], np.int32)
    self._row = _Row(length + 1, tokenizer.pad_id)

  def add(self, document: Document) -> Iterator[Row]:
    """Yield the row that the document completes, if it does."""
    ids, mask = _arrays(document)
    filled = self._row.fill(ids, mask)
    self._row.fill(self._separator, mask[filled - 1 : filled] if filled else _SCORED)
    if self._row.is_full:
      yield self._row.take()

  def end(self) -> Iterator[Row]:
    """Yield nothing: the unfinished row is thrown away."""
    return iter(())


def to_batch(rows_of: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Shift rows into a batch; position t of the inputs predicts targets[t].

  Args:
    rows_of: "tokens" int [B, L + 1] and "mask" [B, L + 1]; what else there is, such
      as "source" [B], stays as it is.

  Returns:
    "inputs" and "targets" int32 [B, L], "mask" float32 [B, L] of the targets.
  """
  rest = dict(rows_of)
  tokens, mask = rest.pop("tokens"), rest.pop("mask")
  return {
    "inputs": tokens[:, :-1].astype(np.int32),
    "targets": tokens[:, 1:].astype(np.int32),
    "mask": mask[:, 1:].astype(np.float32),
    **rest,
  }


_SCORED = np.ones(1, np.uint8)


class _Row:
  """A row that is being filled."""

  def __init__(self, length: int, pad_id: int):
    self._length, self._pad_id = length, pad_id
    self._begin()

  def _begin(self) -> None:
    self._tokens = np.full(self._length, self._pad_id, np.int32)
    self._mask = np.zeros(self._length, np.uint8)
    self.size = 0

  @property
  def is_full(self) -> bool:
    return self.size == self._length

  def fill(self, ids: np.ndarray, mask: np.ndarray) -> int:
    """Append what fits; return how many tokens did."""
    end = min(self.size + len(ids), self._length)
    fits = end - self.size
    self._tokens[self.size : end] = ids[:fits]
    self._mask[self.size : end] = mask[:fits]
    self.size = end
    return fits

  def take(self) -> Row:
    """Return the row, padded, and begin another."""
    row = self._tokens, self._mask
    self._begin()
    return row


def _arrays(document: Document) -> Row:
  """Return a document's ids and mask."""
  if isinstance(document, Masked):
    return np.asarray(document.ids, np.int32), np.asarray(document.mask, np.uint8)
  ids = np.asarray(document, np.int32)
  return ids, np.ones(len(ids), np.uint8)


def _delimited(document: Document, tokenizer: Tokenizer) -> Row:
  """Return BOS document EOS with its mask; without BOS where there is none."""
  ids, mask = _arrays(document)
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  ends = mask if len(mask) else _SCORED
  return (
    np.concatenate(
      [np.asarray(bos, np.int32), ids, [tokenizer.eos_id]], dtype=np.int32
    ),
    np.concatenate([ends[: len(bos)], mask, ends[-1:]]),
  )
