"""The entries of the table `attacks`: adversaries that train, and edits of weights."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from undo_jax.plan.noise import Noise
from undo_jax.utils import records, streams
from undo_jax.utils.records import FieldError, record
from undo_jax.utils.types import JsonObject

Pairs = tuple[tuple[str, tuple[int, ...]], ...]
Items = Literal["test", "validation"]


@record
class AttackEntry:
  """An adversary that trains."""

  run: bool  # False: the entry is as if it were not there.
  adversary: str  # Of undo_jax/attacks, or MODULE:NAME.
  options: JsonObject  # Of the adversary.
  models: tuple[str, ...]  # That are attacked; (): all whose is_attacked is True.
  mixture: str  # Of config.mixtures.
  learning_rates: tuple[float, ...]  # One member each.
  optimizer: str  # Of training.optimizers, or MODULE:NAME.
  num_steps: int  # Relearning updates.
  evaluate_every: int  # Updates between evaluations, inside the program.
  evaluations_per_call: int  # Evaluations between checkpoints.
  batch_size: int  # Rows an update.
  warmup_steps: int  # Linear from 0.
  weight_decay: float  # Decoupled.
  clip_norm: float | None  # Global gradient norm; None: not clipped.
  trainable: Pairs  # What is trained; (): everything.
  noise: Noise  # The model is first noised by so much.
  stream: str  # Of the order of the data and of the noise.
  # Seeds of the attack within that stream, a population of each; (): the stream's own.
  seeds: tuple[int, ...]
  label: str | None
  # The mixture holds nothing of what was forgotten.
  is_benign: Annotated[bool, records.later(False)] = False
  # Rows of each split that the attacker has; None: all.
  samples: Annotated[int | None, records.later(None)] = None
  # The mixture of the first updates, and how many they are.
  first_mixture: Annotated[str | None, records.later(None)] = None
  first_steps: Annotated[int, records.later(0)] = 0
  # Of the rate; a cosine ends at 0.
  schedule: Annotated[Literal["constant", "cosine"], records.later("constant")] = (
    "constant"
  )
  # First updates at rate 0, by which the optimizer's moments are there before a weight
  # moves; of the first mixture as far as there are updates of it.
  still_steps: Annotated[int, records.later(0)] = 0
  # The items it is scored on: those of tables, or those that searches may read.
  scores: Annotated[Items, records.later("test")] = "test"

  def __post_init__(self):
    names = ("num_steps", "evaluate_every", "evaluations_per_call", "batch_size")
    records.at_least(self, *names, smallest=1)
    records.at_least(self, "warmup_steps", smallest=0)
    records.at_least(self, "samples", smallest=1)
    records.not_negative(self, "weight_decay", "first_steps", "still_steps")
    records.above(self, "clip_norm")
    records.one_of(self, "stream", streams.NAMES)
    if (self.first_mixture is None) != (self.first_steps == 0):
      expected = "an integer above 0 with first_mixture, and 0 without"
      raise FieldError("first_steps", expected, self.first_steps)
    if self.first_steps >= self.num_steps:
      expected = f"less than num_steps={self.num_steps}"
      raise FieldError("first_steps", expected, self.first_steps)
    if self.num_steps % self.evaluate_every:
      expected = f"a divisor of num_steps={self.num_steps}"
      raise FieldError("evaluate_every", expected, self.evaluate_every)
    if self.warmup_steps >= self.num_steps:
      expected = f"less than num_steps={self.num_steps}"
      raise FieldError("warmup_steps", expected, self.warmup_steps)
    if self.still_steps and self.still_steps + self.warmup_steps >= self.num_steps:
      expected = f"less than num_steps={self.num_steps} less warmup_steps"
      raise FieldError("still_steps", expected, self.still_steps)
    rates, largest = self.learning_rates, records.LARGEST_NUMBER
    if not rates or min(rates) <= 0 or max(rates) > largest:
      expected = f"at least one number, all above 0 and at most {largest:g}"
      raise FieldError("learning_rates", expected, rates)
    records.distinct(self, "learning_rates", "models", "seeds")
    _check_seeds(self.seeds)


@record
class EditEntry:
  """An edit of the weights: an adversary that trains nothing."""

  run: bool  # False: the entry is as if it were not there.
  edit: str  # Of undo_jax/attacks, or MODULE:NAME.
  options: JsonObject  # Of the edit.
  models: tuple[str, ...]  # That are attacked; (): all whose is_attacked is True.
  strengths: tuple[float, ...]  # One member each.
  stream: str  # Of what an edit draws.
  # Seeds within that stream, where an edit draws; (): the stream's own.
  seeds: tuple[int, ...]
  label: str | None
  # By part of a batch the mixtures of the rows that it reads; None: it reads none.
  mixture: Annotated[dict[str, str] | None, records.later(None)] = None
  rows: Annotated[int | None, records.later(None)] = None  # Of each part.

  def __post_init__(self):
    records.one_of(self, "stream", streams.NAMES)
    if not self.strengths:
      raise FieldError("strengths", "at least one number", self.strengths)
    records.distinct(self, "strengths", "models", "seeds")
    records.at_least(self, "rows", smallest=1)
    if (self.mixture is None) != (self.rows is None):
      expected = "an integer with mixture, and None without"
      raise FieldError("rows", expected, self.rows)
    _check_seeds(self.seeds)


def _check_seeds(seeds: tuple[int, ...]) -> None:
  if seeds and not 0 <= min(seeds) <= max(seeds) < 2**31:
    raise FieldError("seeds", "integers in [0, 2^31)", seeds)


def _kind(value: object) -> str:
  """Return the kind of an entry, given as JSON or as a record."""
  is_edit = "edit" in value if isinstance(value, Mapping) else hasattr(value, "edit")
  return "edit" if is_edit else "attack"


# Which one an entry is, its field `edit` says.
Entry: TypeAlias = Annotated[
  Annotated[AttackEntry, records.tag("attack")]
  | Annotated[EditEntry, records.tag("edit")],
  records.by_tag(_kind),
]
