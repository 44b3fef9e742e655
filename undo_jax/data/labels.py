"""Which rows of a split are labelled: a share of them, the same in every run.

Labels say whether a row is forget or retain data. Row i of n is labelled at the share p
if rank(i) < floor(p * n), where rank is a fixed permutation of the rows that takes them
evenly from everywhere in the split. So what is labelled at a smaller share is labelled
at a larger one too.

In names of splits, "forget:labelled" are its labelled rows and "forget:unlabelled" the
others.
"""

from collections.abc import Collection, Mapping
import math
from typing import Any

import numpy as np

from undo_jax.utils.errors import ConfigError
from undo_jax.utils.types import Rows

LABELLED, UNLABELLED = "labelled", "unlabelled"
_GOLDEN = (5**0.5 - 1) / 2  # Its multiples fill [0, 1) more evenly than any other's.


def ranks(size: int) -> np.ndarray:
  """Returns the permutation of `size` rows, int64 [size]."""
  step = round(size * _GOLDEN)
  while math.gcd(step, size) != 1:
    step += 1
  return np.arange(size, dtype=np.int64) * step % size


def count(size: int, share: float) -> int:
  """Returns how many of `size` rows are labelled: floor(share * size)."""
  return math.floor(share * size + 1e-9)  # 0.29 * 100 is 28.999999999999996.


def split_of(name: str) -> str:
  """Returns the split in a name, "forget" of "forget:labelled"."""
  return name.partition(":")[0]


def check(sizes: Mapping[str, int], names: Mapping[str, float], share: float) -> None:
  """Checks that there are rows of every name.

  Args:
    sizes: the number of rows of each split.
    names: splits or their parts, as in "forget:labelled".
    share: that is labelled, in (0, 1].

  Raises:
    ConfigError: if one has none; names it.
  """
  for name in names:
    split, _, which = name.partition(":")
    labelled = count(sizes[split], share)
    found = {LABELLED: labelled, UNLABELLED: sizes[split] - labelled}
    if not found.get(which, labelled):
      raise ConfigError(
        f"labels.share: at {share:g} of the {sizes[split]} rows of "
        f"{split!r} there is no row {which or LABELLED}; give another share or more "
        "documents"
      )


def dropped(
  weights: Mapping[str, float], forget: Collection[str], share: float
) -> dict[str, float]:
  """Returns a mixture without the rows that are labelled forget.

  Args:
    weights: of splits.
    forget: splits of what is to be forgotten.
    share: of the rows that is labelled, in (0, 1].
  """
  kept = {split: weight for split, weight in weights.items() if split not in forget}
  if share == 1:
    return kept
  unlabelled = {s: w * (1.0 - share) for s, w in weights.items() if s in forget}
  return kept | {f"{split}:{UNLABELLED}": w for split, w in unlabelled.items()}


def parts(
  weights: Mapping[str, float], forget: Collection[str], share: float, size: int
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
  """Divides a batch by labels: parts "forget", "retain" and, of the rest, "unlabelled".

  The parts have the sizes that keep the mixture what it is without labels.

  Args:
    weights: of the mixture's splits.
    forget: splits of what is to be forgotten.
    share: of the rows that is labelled, in (0, 1].
    size: rows of a batch.

  Returns:
    The splits of each part by weight, and its rows.
  """
  which = "" if share == 1 else f":{LABELLED}"
  divided = {
    "forget": {f"{s}{which}": w for s, w in weights.items() if s in forget},
    "retain": {f"{s}{which}": w for s, w in weights.items() if s not in forget},
  }
  to_forget = sum(divided["forget"].values()) / sum(weights.values())
  rows = {"forget": round(size * share * to_forget)}
  if share == 1:
    return divided, rows | {"retain": size - rows["forget"]}
  divided["unlabelled"] = {f"{s}:{UNLABELLED}": w for s, w in weights.items()}
  rows["retain"] = round(size * share * (1 - to_forget))
  return divided, rows | {"unlabelled": size - sum(rows.values())}


class Chosen:
  """The labelled rows of a split, or the others."""

  def __init__(self, rows: Rows, share: float, which: str):
    is_labelled = ranks(len(rows)) < count(len(rows), share)
    self._rows = rows
    self._chosen = np.flatnonzero(is_labelled == (which == LABELLED))

  def __len__(self) -> int:
    return len(self._chosen)

  def __getitem__(self, index: int) -> Any:
    return self._rows[int(self._chosen[index])]


class WithSource:
  """All rows of a split with their "source": `labelled` or `otherwise`, int32."""

  def __init__(self, rows: Rows, share: float, *, labelled: int, otherwise: int):
    is_labelled = ranks(len(rows)) < count(len(rows), share)
    self._rows = rows
    self._sources = np.where(is_labelled, labelled, otherwise).astype(np.int32)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return {**self._rows[index], "source": self._sources[index]}
