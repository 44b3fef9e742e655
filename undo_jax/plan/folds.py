"""Forgetting in folds: some folds of the forget rows, while the others are kept."""

from collections.abc import Mapping

from undo_jax.data import labels
from undo_jax.utils import records
from undo_jax.utils.records import FieldError, record

Parts = dict[str, dict[str, float]]


@record
class Folds:
  """The folds of the forget rows that a recipe forgets."""

  count: int = 1  # 1: all of it at once.
  forgotten: int = 1  # The first so many; the others are among what is kept.
  share: float = 0.5  # Of the rows that are kept, those of the other folds.

  def __post_init__(self):
    records.at_least(self, "count", "forgotten", smallest=1)
    records.unit(self, "share")
    if self.forgotten > self.count:
      raise FieldError("forgotten", f"at most count={self.count}", self.forgotten)

  def check(self, mixture: Mapping[str, str], *, is_selected: bool) -> None:
    """Raise FieldError unless a recipe of these mixtures can forget by folds."""
    if self.count == 1:
      return
    if {"forget", "retain"} - {*mixture}:
      expected = "1, since its mixture has no parts forget and retain"
      raise FieldError("folds.count", expected, self.count)
    if is_selected:
      expected = "1, since its rows are those of a selection"
      raise FieldError("folds.count", expected, self.count)

  def of(self, parts: Parts) -> Parts:
    """Return the parts of a batch with some folds forgotten and the others kept."""
    if self.forgotten == self.count:
      return parts
    forget, retain = (_shares(parts[part]) for part in ("forget", "retain"))
    first = labels.folds(1, self.forgotten, self.count)
    others = labels.folds(self.forgotten + 1, self.count, self.count)
    kept = {split: (1.0 - self.share) * w for split, w in retain.items()}
    kept |= {f"{split}:{others}": self.share * w for split, w in forget.items()}
    return parts | {
      "forget": {f"{split}:{first}": w for split, w in forget.items()},
      "retain": {split: w for split, w in kept.items() if w},
    }


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
  total = sum(weights.values())
  return {split: weight / total for split, weight in weights.items()}
