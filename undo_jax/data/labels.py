"""Which rows of a split are labelled, or selected by a classifier of those that are.

Labels say whether a row is forget or retain data. At the share p row i of n is
labelled if rank(i) < floor(p * n), where rank is a fixed permutation that spreads
ranks evenly over the split. So rows labelled at a smaller share are labelled at a
larger one too. A selection (data/row_classifier.py) draws the rows that are
labelled for it by a seed.

In a stage the name "forget:folds_1_to_2_of_3" stands for the first two of three folds
of a split, each with a third of all ranks.

In a stage the name "forget:labelled" is of a split's labelled rows, "forget:unlabelled"
of the others, and "forget:selected" of those that a selection takes as clean. A config
says "forget:few" for the rows that the selection `few` takes, and "forget:few:labelled"
for those that are labelled for it.
"""

from collections.abc import Collection, Mapping
import math
import re
from typing import Any, NamedTuple

import numpy as np

from undo_jax.utils.errors import ConfigError
from undo_jax.utils.types import Rows

LABELLED, UNLABELLED, SELECTED = "labelled", "unlabelled", "selected"
_FOLDS = re.compile(r"folds_(\d+)_to_(\d+)_of_(\d+)")
_GOLDEN = (5**0.5 - 1) / 2  # Its multiples fill [0, 1) more evenly than any other's.


class Named(NamedTuple):
  """What a config's mixture draws from: a split, or what a selection makes of it."""

  split: str
  selection: str | None = None
  which: str = ""  # SELECTED or LABELLED.

  @property
  def in_stage(self) -> str:
    """What stages call it, which leave the selection's name out."""
    return f"{self.split}:{self.which}" if self.which else self.split

  @property
  def in_config(self) -> str:
    """What a config calls it."""
    parts = (self.split, self.selection or "", self.which)
    return ":".join(parts).removesuffix(f":{SELECTED}") if self.which else self.split


def named(name: str) -> Named:
  """Return what a name in a config's mixture stands for."""
  split, colon, rest = name.partition(":")
  if not colon:
    return Named(split)
  selection, _, which = rest.partition(":")
  return Named(split, selection, which or SELECTED)


def drawn(size: int, share: float, seed: int) -> np.ndarray:
  """Return the rows that are labelled for a selection, int64, in a random order.

  max(1, floor(share * size)) of them; the first ones of a larger share are those of a
  smaller.
  """
  order = np.random.default_rng(seed).permutation(size)
  return order[: max(1, count(size, share))].astype(np.int64)


def selected_weights(
  weights: Mapping[str, float], rows: Mapping[str, int], selected: Mapping[str, int]
) -> dict[str, float]:
  """Return the weights of a stream restricted to the rows that a selection takes.

  A split of weight w, of whose n rows the selection takes m, gets the weight w * m /
  n. Splits without such rows are left out.

  Args:
    weights: of splits by a stage's names.
    rows: of each split.
    selected: of each split, how many are taken.
  """
  left = dict(weights)
  for name, weight in weights.items():
    split, _, which = name.partition(":")
    if which == SELECTED:
      left[name] = weight * selected[split] / rows[split]
  return {name: weight for name, weight in left.items() if weight}


def ranks(size: int) -> np.ndarray:
  """Return the permutation of `size` rows, int64 [size]."""
  step = round(size * _GOLDEN)
  while math.gcd(step, size) != 1:
    step += 1
  return np.arange(size, dtype=np.int64) * step % size


def count(size: int, share: float) -> int:
  """Return how many of `size` rows are labelled: floor(share * size)."""
  return math.floor(share * size + 1e-9)  # 0.29 * 100 is 28.999999999999996.


def split_of(name: str) -> str:
  """Return the split in a name, "forget" of "forget:labelled"."""
  return name.partition(":")[0]


def check(sizes: Mapping[str, int], names: Mapping[str, float], share: float) -> None:
  """Check that there are rows of every name.

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
    counts = {LABELLED: labelled, UNLABELLED: sizes[split] - labelled}
    if not counts.get(which, labelled):
      raise ConfigError(
        f"labels.share: at {share:g} of the {sizes[split]} rows of "
        f"{split!r} there is no row {which or LABELLED}; give another share or more "
        "documents"
      )


def dropped(
  weights: Mapping[str, float], forget: Collection[str], share: float
) -> dict[str, float]:
  """Return a mixture without the rows that are labelled forget.

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
  """Divide a batch by labels: parts "forget", "retain" and, of the rest, "unlabelled".

  The sizes of the parts keep the mixture as it is without labels.

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


class Subset:
  """Some of the rows of a split."""

  def __init__(self, rows: Rows, numbers: np.ndarray):
    """Take all rows, and the numbers of those to keep."""
    self._rows, self._numbers = rows, numbers

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: int) -> Any:
    return self._rows[int(self._numbers[index])]


class Chosen(Subset):
  """The labelled rows of a split, or the others."""

  def __init__(self, rows: Rows, share: float, which: str):
    is_labelled = ranks(len(rows)) < count(len(rows), share)
    super().__init__(rows, np.flatnonzero(is_labelled == (which == LABELLED)))


def folds(first: int, last: int, count: int) -> str:
  """Return what comes after a split's name for some of its folds, counted from 1."""
  return f"folds_{first}_to_{last}_of_{count}"


class Folds(Subset):
  """The rows of some folds of a split, of which each row is in one."""

  def __init__(self, rows: Rows, which: str):
    match = _FOLDS.fullmatch(which)
    assert match is not None, f"{which!r} names no folds"
    first, last, count = map(int, match.groups())
    of_row = 1 + ranks(len(rows)) * count // len(rows)
    super().__init__(rows, np.flatnonzero((first <= of_row) & (of_row <= last)))

  @staticmethod
  def are(which: str) -> bool:
    """Whether a name after a split's is that of folds."""
    return _FOLDS.fullmatch(which) is not None


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
