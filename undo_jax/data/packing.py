"""From token documents to rows of equal length, and from rows to batches.

A row holds length + 1 tokens and a mask over them. Batches shift once, here:
inputs are tokens [0, length), targets tokens [1, length + 1). Special ids are added
here and are the tokenizer's; where it has no BOS, EOS alone separates documents.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from undo_jax.data.tokenizers import Tokenizer

MODES = ("one_per_row", "packed", "reference")
Row = tuple[np.ndarray, np.ndarray]


def rows(
  documents: Iterable[list[int]], length: int, *, mode: str, tokenizer: Tokenizer
) -> Iterator[Row]:
  """Packs documents (ids without special ones) into rows.

  Args:
    documents: lists of ids.
    length: L; rows hold L + 1 tokens.
    mode: one_per_row pads each document; packed joins them and keeps tails;
      reference is the rule of the UNDO paper's code, see `reference`.
    tokenizer: whose special ids are added.

  Yields:
    (tokens int32 [L + 1], mask uint8 [L + 1]); the mask is 0 on pads.

  Raises:
    ValueError: on an unknown mode or, with one_per_row, a document that is longer
      than a row.
  """
  if mode == "one_per_row":
    return one_per_row(documents, length, tokenizer)
  if mode == "packed":
    return packed(documents, length, tokenizer)
  if mode == "reference":
    whole = reference(documents, length + 1, tokenizer)
    return ((np.asarray(row, np.int32), np.ones(length + 1, np.uint8)) for row in whole)
  raise ValueError(f"unknown packing {mode!r}; known are {', '.join(MODES)}")


def one_per_row(
  documents: Iterable[list[int]], length: int, tokenizer: Tokenizer
) -> Iterator[Row]:
  """Yields BOS document EOS in a row each, padded; see `rows`."""
  for document in documents:
    ids = _delimited(document, tokenizer)
    if len(ids) > length + 1:
      raise ValueError(
        f"a document of {len(document)} tokens does not fit a row of {length} with"
        " its BOS; raise data.sequence_length or use packing 'packed'"
      )
    yield _padded(ids, length, tokenizer.pad_id)


def packed(
  documents: Iterable[list[int]], length: int, tokenizer: Tokenizer
) -> Iterator[Row]:
  """Yields rows cut from BOS document EOS BOS document EOS ...; see `rows`.

  No token is lost: a document's tail opens the next row, and the last row is
  padded. Rows overlap by one token, so that every token is a target once.
  """
  buffer: list[int] = []
  for document in documents:
    buffer += _delimited(document, tokenizer)
    while len(buffer) > length + 1:
      yield _padded(buffer[: length + 1], length, tokenizer.pad_id)
      buffer = buffer[length:]
  if len(buffer) > 1:
    yield _padded(buffer, length, tokenizer.pad_id)


def reference(
  documents: Iterable[list[int]], row_length: int, tokenizer: Tokenizer
) -> Iterator[list[int]]:
  """Yields rows by the rule of the UNDO paper's public code.

  Documents are joined with BOS (EOS where there is no BOS) after each; the part of a
  document that does not fit into the row is thrown away, and so is the last
  unfinished row.

  Example: rows of 8, documents [11, 12, 13], [21..26], [31] (BOS is 2) begin with
  [11, 12, 13, 2, 21, 22, 23, 24]; 25 and 26 are lost.
  """
  separator = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
  buffer: list[int] = []
  for document in documents:
    buffer += document[: row_length - len(buffer)]
    buffer.append(separator)
    if len(buffer) >= row_length:
      yield buffer[:row_length]
      buffer = []


def to_batch(rows_of: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Shifts rows into a batch; position t of the inputs predicts targets[t].

  Args:
    rows_of: "tokens" int [B, L + 1] and "mask" [B, L + 1].

  Returns:
    "inputs" and "targets" int32 [B, L], "mask" float32 [B, L] of the targets.
  """
  tokens, mask = rows_of["tokens"], rows_of["mask"]
  return {
    "inputs": tokens[:, :-1].astype(np.int32),
    "targets": tokens[:, 1:].astype(np.int32),
    "mask": mask[:, 1:].astype(np.float32),
  }


def _delimited(document: list[int], tokenizer: Tokenizer) -> list[int]:
  """Returns BOS document EOS; without BOS where there is none."""
  bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  return [*bos, *document, tokenizer.eos_id]


def _padded(ids: list[int], length: int, pad_id: int) -> Row:
  padding = length + 1 - len(ids)
  tokens = np.asarray(ids + [pad_id] * padding, np.int32)
  mask = np.asarray([1] * len(ids) + [0] * padding, np.uint8)
  return tokens, mask
