"""What the commands that measure a checkpoint have in common: flags, and a request."""

import dataclasses
from typing import Any

from absl import flags

from undo_jax.checkpoints import models
from undo_jax.checkpoints.models import Model


@dataclasses.dataclass(frozen=True)
class Request:
  """Which checkpoint is measured, beside which, and how."""

  checkpoint: str
  retain_checkpoint: str | None = None
  learning_rate: float | None = None
  limit: int | None = None
  batch_size: int = 8
  dtype: str = "float32"
  output: str | None = None

  def model(self) -> Model:
    """Read the checkpoint."""
    return models.read(
      self.checkpoint, learning_rate=self.learning_rate, dtype=self.dtype
    )

  def reference(self) -> Model | None:
    """Read the one that never saw what is to be forgotten, if it is given."""
    if self.retain_checkpoint is None:
      return None
    return models.read(self.retain_checkpoint, dtype=self.dtype)


def define(*, limit: str) -> dict[str, Any]:
  """Define the flags of a request; return them by the names of its fields.

  Args:
    limit: help of --limit: what is limited.
  """
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  dtypes = ["float32", "bfloat16"]
  return {
    "checkpoint": text("checkpoint", None, "The model to measure.", required=True),
    "retain_checkpoint": text("retain_checkpoint", None, "The reference; see above."),
    "learning_rate": flags.DEFINE_float(
      "learning_rate", None, "Of an attack's member."
    ),
    "limit": number("limit", None, limit, lower_bound=1),
    "batch_size": number("batch_size", 8, "Rows per pass.", lower_bound=1),
    "dtype": flags.DEFINE_enum("dtype", "float32", dtypes, "Compute type."),
    "output": text("output", None, "Where to write the results as JSON."),
  }
