"""Rows that a classifier selects by a few labelled ones, as a config declares it."""

from undo_jax.utils import records
from undo_jax.utils.records import FieldError, record


@record
class Selection:
  """An entry of the table `selections`: how many rows are labelled, what is taken."""

  # Of config.mixtures; the rows of its splits are classified.
  mixture: str
  # Of the rows of each split, in (0, 1], that are labelled; at least one of each. None:
  # `rows` says how many.
  share: float | None = None
  rows: int | None = None  # Of all splits together, that are labelled.
  # Of all rows, in (0, 1), that are taken, those likeliest to be retain data; None: all
  # that are likelier retain than forget data.
  keep: float | None = None
  seed: int | None = None  # Of what is labelled; None: the run's of the stream data.

  def __post_init__(self):
    if (self.share is None) == (self.rows is None):
      expected = "either a share or rows, the other None"
      raise FieldError("share", expected, {"share": self.share, "rows": self.rows})
    if self.share is not None and not 0 < self.share <= 1:
      raise FieldError("share", "a number in (0, 1]", self.share)
    records.at_least(self, "rows", smallest=2)
    if self.keep is not None and not 0 < self.keep < 1:
      raise FieldError("keep", "None or a number in (0, 1)", self.keep)
    if self.seed is not None and not 0 <= self.seed < 2**31:
      raise FieldError("seed", "None or an integer in [0, 2^31)", self.seed)
