"""Hashes of documents' texts, to find texts that two sets have in common.

Two texts are the same here if they are equal once letters are folded (Unicode NFKC and
case) and runs of white space are one space. Hashes have 64 bits: among n documents the
probability of a false match is n^2 / 2^65, one in 3,700 for 10^8 documents.
"""

import bisect
from collections.abc import Mapping
import hashlib
import pathlib
from typing import NamedTuple
import unicodedata

import numpy as np

from undo_jax.data.documents import files as document_files

RECORD = np.dtype([("hash", "<u8"), ("file", "<u4"), ("number", "<u4")])
# Records that are sorted at once; more are sorted part by part.
SORTED_AT_ONCE = 2**22


class Overlap(NamedTuple):
  """How many texts two sets share, and where the first of them are.

  Attributes:
    count: the texts in common, each counted once.
    examples: for a few of them their places in both sets.
  """

  count: int  # pyright: ignore[reportIncompatibleMethodOverride]
  examples: tuple[tuple[str, str], ...]


class Hashes(NamedTuple):
  """The hashes of a split's documents.

  Attributes:
    records: of dtype `RECORD`, sorted by hash; a text that comes twice is there twice.
    files: names of the files that "file" counts.
  """

  records: np.ndarray
  files: tuple[str, ...]

  def place(self, index: int) -> str:
    """Return the file and line (or row, in Parquet) of a record."""
    record = self.records[index]
    path = pathlib.Path(self.files[record["file"]])
    return document_files.place(path, int(record["number"]))


def text_hash(text: str) -> int:
  """Return the first 64 bits of blake2b over the folded text."""
  digest = hashlib.blake2b(digest_size=8)
  separator = ""
  for piece in document_files.pieces(text):
    words = unicodedata.normalize("NFKC", piece).casefold().split()
    if words:
      digest.update((separator + " ".join(words)).encode())
      separator = " "
  return int.from_bytes(digest.digest(), "little")


def hashes(places: Mapping[str, str]) -> Hashes:
  """Return the hashes of texts, given what an error calls the place of each."""
  entries = [(text_hash(text), index, 0) for index, text in enumerate(places)]
  return Hashes(np.sort(np.array(entries, RECORD)), tuple(places.values()))


def held_out(
  hashes: np.ndarray, *, validation: float, test: float, seed: int
) -> np.ndarray:
  """Return which split documents are in, by x = mix(hash, seed) / 2^64.

  Validation where x < validation, test where x is less than the test's share above it.
  The same text is always on the same side. mix is splitmix64's: a bijection of 64
  bits for every seed.

  Args:
    hashes: uint64 [documents], see `text_hash`.
    validation: expected share, in [0, 1).
    test: likewise; both together below 1.
    seed: a non-negative integer.

  Returns:
    Indices [documents] of "train", "validation", "test".
  """
  mixed = hashes.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
  for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
  mixed ^= mixed >> np.uint64(31)
  limits = [int(share * 2**64) for share in (validation, validation + test)]
  below = [mixed < np.uint64(limit) for limit in limits]
  return np.where(below[0], 1, np.where(below[1], 2, 0))


def sort(unsorted: pathlib.Path, output: pathlib.Path) -> None:
  """Write the records of a file sorted by hash, as .npy.

  Memory is bounded: hashes are uniform, so equal ranges of them are equal parts.

  Args:
    unsorted: the bytes of records in the order of the documents.
    output: the .npy file to write; of equal hashes the first document's comes first.
  """
  size = unsorted.stat().st_size // RECORD.itemsize
  num_parts = max(1, -(-size // SORTED_AT_ONCE))
  with open(output, "wb") as file:
    header = {"descr": RECORD.descr, "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, header)
    for part in range(num_parts):
      records = _in_part(unsorted, part, num_parts)
      records[np.argsort(records["hash"], kind="stable")].tofile(file)


def _in_part(unsorted: pathlib.Path, part: int, num_parts: int) -> np.ndarray:
  """Return the records whose hash is in one of the equal ranges, in their order."""
  chunks = []
  with open(unsorted, "rb") as file:
    while len(records := np.fromfile(file, RECORD, SORTED_AT_ONCE)):
      ranges = (records["hash"] >> np.uint64(32)) * np.uint64(num_parts)
      chunks.append(records[ranges >> np.uint64(32) == part])
  return np.concatenate(chunks or [np.empty(0, RECORD)])


def overlap(a: Hashes, b: Hashes, *, num_examples: int = 3) -> Overlap:
  """Count the texts that two sets of documents share.

  Args:
    a: one set, see documents.content_hashes.
    b: the other.
    num_examples: for how many of them the places are returned, those of smallest hash.

  Returns:
    The count, and the places as pairs (in a, in b).
  """
  if len(a.records) < len(b.records):
    swapped = overlap(b, a, num_examples=num_examples)
    return Overlap(swapped.count, tuple((y, x) for x, y in swapped.examples))
  count, examples = 0, []
  previous = None
  for start in range(0, len(a.records), SORTED_AT_ONCE):
    block = a.records["hash"][start : start + SORTED_AT_ONCE]
    low = bisect.bisect_left(b.records["hash"], block[0])
    high = bisect.bisect_right(b.records["hash"], block[-1])
    same, in_a, in_b = np.intersect1d(
      block, b.records["hash"][low:high], return_indices=True
    )
    if len(same) and same[0] == previous:  # It ended the block before.
      same, in_a, in_b = same[1:], in_a[1:], in_b[1:]
    count += len(same)
    for i, j in zip(in_a, in_b, strict=True):
      if len(examples) == num_examples:
        break
      examples.append((a.place(start + int(i)), b.place(low + int(j))))
    previous = block[-1]
  return Overlap(count, tuple(examples))
