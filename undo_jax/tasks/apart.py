"""Checks that no item is two of: attacked, scored, read by stop rules.

An item is what an answer rests on, as each task defines it: a fact, a document, a
question. Two are the same if their hashes are, see data/documents/hashes.py. The data
stage hashes what it has written or read, independently of how it divided the items.
"""

from collections.abc import Iterable, Mapping, Sequence
import hashlib
import itertools
import pathlib

import numpy as np

from undo_jax.data.documents import preparation
from undo_jax.tasks import corpora
from undo_jax.tasks.task import Data
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.types import JsonObject

ATTACKED, SCORED, STOPPING = "attacked", "scored", "read by stop rules"
Sets = Sequence[preparation.Hashes]


def of_texts(texts: Iterable[str]) -> Sets:
  """Return the hashes of items that are texts, which name themselves in errors."""
  return [preparation.hashes({text: repr(text) for text in texts})]


def of_documents(data: Data, directory: pathlib.Path, splits: Iterable[str]) -> Sets:
  """Return the hashes of the documents of prepared splits, "NAME_train", say."""
  return [corpora.content_hashes(data, directory, split) for split in splits]


def check(
  what: str,
  items: Mapping[str, Sets],
  *,
  splits: Sequence[str],
  others: Sequence[str] = (),
  note: str = "",
) -> JsonObject:
  """Return how many items of each kind there are, none of which is of two kinds.

  Args:
    what: the items in words, "facts".
    items: the hashes of each kind: ATTACKED, SCORED and, where there are any, STOPPING.
    splits: of the attacked items.
    others: further splits of what is to be forgotten, which hold scored items too.
    note: limits of the comparison.

  Returns:
    Fields of frontier.results.Apart: of each kind the number of different items and a
    digest of their sorted hashes, and how many are of two kinds: 0.

  Raises:
    ConfigError: if an item is of two kinds; names the first.
  """
  shared = 0
  for one, other in itertools.combinations(items.items(), 2):
    shared += _shared(what, one, other)
  unique = {
    kind: np.unique(np.concatenate([np.zeros(0, "<u8"), *map(_of_set, sets)]))
    for kind, sets in items.items()
  }
  return {
    "what": what,
    "items": {kind: len(own) for kind, own in unique.items()},
    "digests": {kind: _digest(own) for kind, own in unique.items()},
    "shared": shared,
    "splits": list(splits),
    "others": list(others),
    "note": note,
  }


def _shared(what: str, one: tuple[str, Sets], other: tuple[str, Sets]) -> int:
  """Return how many items two kinds share; raise ConfigError unless it is none."""
  (kind, first), (other_kind, second) = one, other
  for a, b in itertools.product(first, second):
    overlap = preparation.overlap(a, b)
    if overlap.count:
      places = "; ".join(" and ".join(pair) for pair in overlap.examples)
      raise ConfigError(
        f"{overlap.count} {what} are {kind} and {other_kind}, where none was expected "
        f"({places}); remove them from one of the two"
      )
  return 0


def _of_set(hashes: preparation.Hashes) -> np.ndarray:
  return hashes.records["hash"]


def _digest(hashes: np.ndarray) -> str:
  """Return a digest, equal for equal items."""
  return hashlib.blake2b(hashes.astype("<u8").tobytes(), digest_size=8).hexdigest()
