"""Which weights are trained, if scores choose a share of them."""

import dataclasses
from typing import Annotated, Literal

from undo_jax.utils import records
from undo_jax.utils.records import FieldError, record

By = Literal["forget", "ratio", "attribution", "random"]


def _mixtures() -> dict[str, str]:
  return {"forget": "unlearn_forget", "retain": "unlearn_retain"}


@record
class TrainedShare:
  """A share of the weights: the mask, and where its squared gradients come from."""

  # forget: those with the largest squared gradients F on forget rows; ratio: with the
  # highest F_forget / (F_forget + F_retain); attribution: see saliency.attribution, of
  # mean gradients; random: a control; None: all are trained.
  by: By | None = None
  share: float = 0.5  # Of all weights.
  model: str = "base"  # The entry whose gradients they are.
  # Of config.mixtures, by part: forget and retain.
  mixtures: dict[str, str] = dataclasses.field(default_factory=_mixtures)
  num_batches: int = 1  # Whose squared gradients are averaged, of each part.
  batch_size: int = 256  # Rows of each.
  curvature: float = 1e-3  # Of the retain loss, where attribution reads it.

  def __post_init__(self):
    records.unit(self, "share")
    records.above(self, "curvature")
    records.at_least(self, "num_batches", "batch_size", smallest=1)
    if {*self.mixtures} != {"forget", "retain"}:
      raise FieldError("mixtures", "a mixture for forget and retain", self.mixtures)

  @property
  def reads_gradients(self) -> bool:
    """Whether it needs gradients of a model."""
    return self.by in ("forget", "ratio", "attribution")

  @property
  def power(self) -> int:
    """Of the gradients that are averaged."""
    return 1 if self.by == "attribution" else 2

  @property
  def mask(self) -> "TrainedMask | None":
    """The weights that are trained; None: all."""
    if self.by is None:
      return None
    curvature = self.curvature if self.by == "attribution" else None
    return TrainedMask(by=self.by, share=self.share, curvature=curvature)


@record
class TrainedMask:
  """Which weights a stage trains."""

  by: By
  share: float
  curvature: Annotated[float | None, records.later(None)] = None  # Of attribution.
