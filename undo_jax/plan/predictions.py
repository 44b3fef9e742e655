"""What is kept of a teacher's predictions, so that no student computes them again."""

from typing import Literal

from undo_jax.utils.records import record

# Log-probabilities of 11 bits are as small as those of bfloat16, and nearer.
Dtype = Literal["float32", "float16"]


@record
class TeacherPredictions:
  """A recipe's field: whether its teacher's predictions are computed once and kept."""

  keep: bool = False
  dtype: Dtype = "float32"  # Of the log-probabilities.


@record
class Kept:
  """What is kept of the predictions at each position."""

  top_k: int  # The likeliest tokens, all others as one class; 0: all tokens.
  dtype: Dtype
