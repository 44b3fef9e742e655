"""The kinds of stages: what determines each, as frozen records with JSON both ways.

A stage's identity is the hash of its record and of its inputs' identities. A stage
that is finished under an identity is never computed again, and a changed field changes
every stage after it. Names are not part of the identity; `inputs` has the models that
an attack or a recipe reads by role.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
from typing import Annotated, ClassVar, TypeAlias

from undo_jax.models.config import ModelConfig
from undo_jax.plan.attack_entries import Items
from undo_jax.plan.config import Reserve, Stop
from undo_jax.plan.noise import Noise, NoiseAgain, NoiseShape
from undo_jax.plan.predictions import Kept
from undo_jax.plan.trained import TrainedMask
from undo_jax.training.optimizers import OptimizerConfig, trainable_rules
from undo_jax.training.smoothing import Smoothing
from undo_jax.utils import records
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import record
from undo_jax.utils.types import JsonObject

# Counted up when the meaning of a stage changes, so that old results do not pass
# for new ones.
VERSION = 4
DATA = "data"  # The name of the data stage, and the role it has as an input.
BATCH = "batch"  # The part of a batch that has no parts.


@record
class Base:
  """What all stages have: a name, their own directory's."""

  KIND: ClassVar[str]
  name: str

  @property
  def inputs(self) -> dict[str, str]:
    """The stages that this one reads, by role."""
    return {}


@record
class DataStage(Base):
  """Rows and evaluation problems of a task."""

  KIND: ClassVar[str] = "data"
  task: str
  data: JsonObject  # config.data, and what the files that it names hold.
  seeds: dict[str, int]  # Of the streams data and eval.


@record
class ModelStage(Base):
  """What all stages have whose result is a model that is scored."""

  task: str
  model: ModelConfig

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage, whose problems the model is scored on."""
    return {DATA: DATA}


@record
class GivenStage(ModelStage):
  """A model that is taken from a checkpoint, and scored."""

  KIND: ClassVar[str] = "given"
  fingerprint: str  # Of the checkpoint's content; its path does not matter.


@record
class RowLabels:
  """Which rows are known to be forget or retain."""

  share: float  # Of the rows, in (0, 1].
  forget: tuple[str, ...]  # Splits of what is to be forgotten.
  # Rows labelled forget were left out; else each row's label is told to the objective.
  is_filter: bool


@record
class SaliencyStage(Base):
  """Squared gradients of a model's cross-entropy: diagonal Fisher estimates."""

  KIND: ClassVar[str] = "saliency"
  model: ModelConfig
  source: str  # The stage of the model.
  parts: dict[str, dict[str, float]]  # forget and retain: the splits by weight.
  num_batches: int  # That are averaged, of each part.
  batch_size: int  # Rows of each.
  length: int  # L, tokens of a row.
  seeds: dict[str, int]
  stream: str  # Of the order of the data.
  # The stage of the selection whose rows are read; None: of none.
  selection: Annotated[str | None, records.later(None)] = None
  power: Annotated[int, records.later(2)] = 2  # 1: mean gradients instead.

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage, the model, and the selection if any."""
    given = {} if self.selection is None else {"selection": self.selection}
    return {DATA: DATA, "model": self.source, **given}

  @property
  def rows(self) -> dict[str, int]:
    """Rows of each part of a batch."""
    return dict.fromkeys(self.parts, self.batch_size)


@record
class PredictionsStage(Base):
  """A teacher's predictions at every position of every row of some splits."""

  KIND: ClassVar[str] = "predictions"
  task: str
  model: ModelConfig
  source: str  # The stage of the teacher.
  splits: tuple[str, ...]
  length: int  # L, tokens of a row.
  kept: Kept

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage and the teacher."""
    return {DATA: DATA, "model": self.source}


@record
class SelectionStage(Base):
  """Rows of some splits that a classifier takes as clean, by a few labelled ones."""

  KIND: ClassVar[str] = "selection"
  splits: tuple[str, ...]  # Whose rows are classified.
  forget: tuple[str, ...]  # Those of them that are to be forgotten.
  share: float | None  # Of each split's rows, that are labelled; None: `labelled` says.
  labelled: int | None  # Rows of all splits that are labelled.
  keep: float | None  # Of all rows that are taken; None: where retain is likelier.
  length: int  # L, tokens of a row.
  seeds: dict[str, int]
  stream: str  # Of what is labelled.

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage."""
    return {DATA: DATA}


@record
class TrainStage(ModelStage):
  """A trained model."""

  KIND: ClassVar[str] = "train"
  init: str | None  # The stage that training starts from; None: random weights.
  noise: Noise | None  # Of what it starts from.
  objective: str
  options: JsonObject  # Of the objective, those that are not its defaults.
  frozen: dict[str, str]  # Stages whose models the objective reads, by role.
  optimizer: OptimizerConfig
  batch_size: int
  num_microbatches: int
  rho: float
  # The parts of a batch: the splits that its rows are drawn from, by weight; after a
  # colon which of a split's rows, see data/labels.py.
  parts: dict[str, dict[str, float]]
  rows: dict[str, int]  # Of each part.
  length: int  # L, tokens of a row.
  stop: Stop | None
  seeds: dict[str, int]  # Of the streams that are used.
  init_stream: str
  order_stream: str
  reserve: Reserve | None  # Units that gradients are routed to.
  labels: RowLabels | None
  sorts: str | None  # The model whose pretraining data was labelled for this one.
  is_counted: bool  # Its cost counts for the models made from it.
  # Which weights are noised, and the stage of the squared gradients that say so.
  noise_shape: Annotated[NoiseShape | None, records.later(None)] = None
  saliency: Annotated[str | None, records.later(None)] = None
  noise_again: Annotated[NoiseAgain | None, records.later(None)] = None
  # The stage of the teacher's predictions, where they are read and no teacher is; what
  # is kept of them.
  predictions: Annotated[str | None, records.later(None)] = None
  kept: Annotated[Kept | None, records.later(None)] = None
  smoothing: Annotated[Smoothing | None, records.later(None)] = None
  # Which weights are trained, and the stage of the squared gradients that say so.
  trained: Annotated[TrainedMask | None, records.later(None)] = None
  trained_saliency: Annotated[str | None, records.later(None)] = None
  # The stage of the selection whose rows are read; None: of none.
  selection: Annotated[str | None, records.later(None)] = None

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage, the model that training starts from, those that are read."""
    init = {} if self.init is None else {"init": self.init}
    read = {
      "saliency": self.saliency,
      "predictions": self.predictions,
      "selection": self.selection,
      "trained_saliency": self.trained_saliency,
    }
    given = {role: name for role, name in read.items() if name is not None}
    return {DATA: DATA, **init, **self.frozen, **given}

  @property
  def gradients(self) -> int:
    """How many gradients an update takes."""
    if self.smoothing is not None:
      return self.smoothing.passes
    return 2 if self.rho else 1

  @property
  def trainable(self) -> tuple:
    """The rules of trees.mask_from_rules of what is trained; (): everything."""
    return trainable_rules(self.optimizer.trainable)


@record
class AblateStage(ModelStage):
  """A model without its reserved units."""

  KIND: ClassVar[str] = "ablate"
  whole: str  # The stage of the model that has them.
  reserve: Reserve

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage and the model that is ablated."""
    return {DATA: DATA, "model": self.whole}


@record
class FirstUpdates:
  """What an attacker trains on before its own data."""

  parts: dict[str, dict[str, float]]
  num_steps: int


@record
class AttackStage(ModelStage):
  """An adversary against one model."""

  KIND: ClassVar[str] = "attack"
  attack: str  # Its name in the table of attacks.
  target: str  # The stage of the model that is attacked.
  adversary: str
  options: JsonObject
  learning_rates: tuple[float, ...]
  optimizer: OptimizerConfig  # Of learning rate 1: each member's own scales it.
  evaluate_every: int
  evaluations_per_call: int
  batch_size: int
  parts: dict[str, dict[str, float]]
  length: int
  noise: Noise | None
  seeds: dict[str, int]
  stream: str
  scored_items: Annotated[Items, records.later("test")] = "test"
  # Rows of each split that the attacker has; None: all.
  samples: Annotated[int | None, records.later(None)] = None
  first: Annotated[FirstUpdates | None, records.later(None)] = None

  @property
  def but_for_target(self) -> str:
    """What the same attack on other models has in common with this one."""
    fields = {k: v for k, v in to_json(self).items() if k not in ("name", "target")}
    return json.dumps(fields, sort_keys=True)

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage and the model that is attacked."""
    return {DATA: DATA, "model": self.target}

  @property
  def rows(self) -> dict[str, int]:
    """Rows of each part of a batch."""
    return dict.fromkeys(self.parts, self.batch_size)

  @property
  def trainable(self) -> tuple:
    """The rules of trees.mask_from_rules of what is trained; (): everything."""
    return trainable_rules(self.optimizer.trainable)


@record
class EditStage(ModelStage):
  """An edit of one model's weights, which trains nothing."""

  KIND: ClassVar[str] = "edit"
  attack: str  # Its name in the table of attacks.
  target: str  # The stage of the model that is attacked.
  base: str | None  # The stage of the base, where the edit reads its weights.
  edit: str
  options: JsonObject
  strengths: tuple[float, ...]
  seeds: dict[str, int]  # Empty where the edit draws nothing.
  stream: str
  # The parts of the rows that it reads, how many of each, L; None: it reads none.
  parts: Annotated[dict[str, dict[str, float]] | None, records.later(None)] = None
  batch_size: Annotated[int, records.later(0)] = 0
  length: Annotated[int, records.later(0)] = 0

  @property
  def rows(self) -> dict[str, int]:
    """Rows of each part that it reads."""
    return dict.fromkeys(self.parts or {}, self.batch_size)

  @property
  def inputs(self) -> dict[str, str]:
    """The data stage, the model that is attacked, the base."""
    base = {} if self.base is None else {"base": self.base}
    return {DATA: DATA, "model": self.target, **base}


# What training reads that is made for it: of a model, or of the data.
Read: TypeAlias = SaliencyStage | PredictionsStage | SelectionStage
Against: TypeAlias = AttackStage | EditStage  # What a model stands or falls by.
Stage: TypeAlias = DataStage | GivenStage | Read | TrainStage | AblateStage | Against
Model: TypeAlias = GivenStage | TrainStage | AblateStage
KINDS: dict[str, type[Stage]] = {
  kind.KIND: kind
  for kind in (
    DataStage,
    GivenStage,
    SaliencyStage,
    PredictionsStage,
    SelectionStage,
    TrainStage,
    AblateStage,
    AttackStage,
    EditStage,
  )
}
# Fields that say who reads what: the identities of the inputs stand for them.
_NAMES = (
  "name",
  "init",
  "frozen",
  "whole",
  "target",
  "sorts",
  "attack",
  "base",
  "source",
  "saliency",
  "predictions",
  "trained_saliency",
  "selection",
)


def to_json(stage: Stage) -> JsonObject:
  """Return a stage as JSON, its kind and the version among the fields."""
  return {"version": VERSION, "kind": stage.KIND, **records.to_json(stage)}


def from_json(value: Mapping[str, object], *, path: str) -> Stage:
  """Return the stage that `to_json` wrote; what else is in `value` is left alone.

  Raises:
    ConfigError: if it was written by another version, or a field does not fit; names
      the file by `path`.
  """
  version, kind = value.get("version"), KINDS.get(str(value.get("kind")))
  if version != VERSION or kind is None:
    raise ConfigError(
      f"{path}: expected a stage of version {VERSION}, got version {version!r} and "
      f"kind {value.get('kind')!r}; it was written by another version of undo_jax: run "
      "it again in a new directory"
    )
  fields = {name: value[name] for name in kind.__dataclass_fields__ if name in value}
  return records.from_json(kind, fields, path=path)


def identities(
  stages: Sequence[Stage], *, left_out: Sequence[str] = ()
) -> dict[str, str]:
  """Return for each stage 12 hex digits that determine its result.

  Args:
    stages: a plan.
    left_out: fields that do not count, for what stages have in common.
  """
  known: dict[str, str] = {}
  ignored = {*_NAMES, *left_out}
  for stage in stages:
    fields = {k: v for k, v in to_json(stage).items() if k not in ignored}
    inputs = {role: known[name] for role, name in stage.inputs.items()}
    text = json.dumps({**fields, "inputs": inputs}, sort_keys=True)
    known[stage.name] = hashlib.sha256(text.encode()).hexdigest()[:12]
  return known
