"""A run as it is declared: the typed form of a config file's ConfigDict.

The two tables are `models`, how each model is made, and `attacks`, how each is
attacked; the functions of undo_jax/config build their entries. `parse` converts a
ConfigDict once; no code after it reads a ConfigDict.
"""

from collections.abc import Collection, Mapping
import dataclasses
import math
import re
from typing import Any, Literal

from ml_collections import config_dict

from undo_jax.distributed import sharding
from undo_jax.models.config import ModelConfig
from undo_jax.plan import search, sweeps
from undo_jax.plan.attack_entries import Entry
from undo_jax.plan.folds import Folds
from undo_jax.plan.noise import ShapedNoise
from undo_jax.plan.predictions import TeacherPredictions
from undo_jax.plan.search import Search
from undo_jax.plan.selection import Selection
from undo_jax.plan.trained import TrainedShare
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.training.smoothing import Smoothing
from undo_jax.utils import records, streams
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError, record
from undo_jax.utils.types import JsonObject

RANDOM = "random"  # As a recipe's `start`: fresh weights.
TEACHER = "teacher"  # As a recipe's `start`: the model of that role.
# Which command makes a model alone; "other": none does.
Phase = Literal["pretrain", "unlearn", "distill", "other"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@record
class Stop:
  """When training ends before its last step."""

  rule: str | None  # Of training.stop_rules, or MODULE:NAME; None: a fixed budget.
  evaluate_every: int  # Updates between checks; also after the first.
  options: JsonObject  # Of the rule.

  def __post_init__(self):
    records.at_least(self, "evaluate_every", smallest=1)


@record
class Reserve:
  """Units of each layer that are set aside for what is to be forgotten."""

  mlp_units: int = 0  # The last so many.
  kv_heads: int = 0  # The last so many, with their query heads.
  old_target: float = 0.0  # Weight of forget gradients elsewhere; below 0: ascent.

  def __post_init__(self):
    records.at_least(self, "mlp_units", "kv_heads", smallest=0)
    if self.old_target > 1:
      raise FieldError("old_target", "a number of at most 1", self.old_target)

  @property
  def is_on(self) -> bool:
    """Whether anything is set aside."""
    return bool(self.mlp_units or self.kv_heads)


@record
class Labels:
  """Rows that are known to be forget or retain."""

  share: float = 1.0  # Of the rows, in (0, 1].
  # Leaves rows labelled forget out of the mixture.
  drop_forget: bool = False
  # The model whose pretraining data had to be labelled to make the mixture.
  sorts: str | None = None

  def __post_init__(self):
    if not 0 < self.share <= 1:
      raise FieldError("share", "a number in (0, 1]", self.share)


@record
class Look:
  """How a model is shown; None: as its method says."""

  label: str | None = None
  color: str | None = None  # "#rrggbb"; the members of a sweep are its shades.
  marker: str | None = None  # Of undo_jax/frontier/figures/shapes.py.


@record
class Recipe:
  """How a model is made: an entry of the table `models`."""

  run: bool  # False: the entry is as if it were not there.
  phase: Phase
  start: str  # RANDOM, TEACHER, or the name of another entry.
  # A stage's directory or Hugging Face's: this model is taken from it, not trained.
  checkpoint: str | None
  noise: ShapedNoise  # What training starts from is noised first.
  objective: str  # Of undo_jax/objectives, or MODULE:NAME.
  options: JsonObject  # Of the objective.
  # Models that the objective only reads, by role: teacher, reference, base.
  frozen: dict[str, str | None]
  mixture: dict[str, str]  # Of config.mixtures, by the part of a batch it fills.
  optimizer: OptimizerConfig
  batch_size: int  # Rows an update, of each part.
  num_microbatches: int  # Gradients summed over parts of a batch.
  # Length of the perturbation of sharpness-aware minimization; 0: off.
  rho: float
  stop: Stop
  init_stream: str  # Of random weights.
  order_stream: str  # Of the order of the data.
  streams: dict[str, int | None]  # Seeds of this model's own, in place of the run's.
  reserve: Reserve  # Units that routing reserves, and that are ablated at the end.
  labels: Labels
  # What it took to make it counts for the models made from it.
  is_counted: bool
  is_attacked: bool  # By the attacks that name no models.
  look: Look
  # Fields of this entry with tuples of values, as in {"noise": {"alpha": (0.3, 0.5)}}:
  # the entry becomes one for each combination, with the values in its name.
  sweep: JsonObject
  # Of objectives that read a teacher's outputs alone.
  teacher_predictions: TeacherPredictions = TeacherPredictions()
  teacher_prompt: str | None = None  # Read before every row, by the teacher alone.
  smoothing: Smoothing = Smoothing()  # Of the loss that training follows.
  trained: TrainedShare = TrainedShare()  # Beside optimizer.trainable.
  folds: Folds = Folds()  # Of what is to be forgotten, those that are.
  family: str | None = None  # The entry that was swept; `parse` says so,
  swept: JsonObject = dataclasses.field(default_factory=dict)  # and values by path.

  def __post_init__(self):
    records.at_least(self, "batch_size", "num_microbatches", smallest=1)
    records.not_negative(self, "rho")
    if self.rho and self.smoothing.kind:
      expected = f"None, since rho={self.rho:g} already perturbs the weights"
      raise FieldError("smoothing.kind", expected, self.smoothing.kind)
    if self.batch_size % self.num_microbatches:
      expected = f"a divisor of batch_size={self.batch_size}"
      raise FieldError("num_microbatches", expected, self.num_microbatches)
    for name in ("init_stream", "order_stream"):
      records.one_of(self, name, streams.NAMES)
    if self.start == TEACHER and self.frozen.get("teacher") is None:
      raise FieldError("frozen.teacher", "a model, since start is 'teacher'", None)
    if not self.mixture and self.checkpoint is None:
      raise FieldError("mixture", "a mixture for each part of a batch", {})

  @property
  def origin(self) -> str | None:
    """The entry that training starts from; None: random weights."""
    if self.start == RANDOM:
      return None
    return self.frozen.get("teacher") if self.start == TEACHER else self.start


@record
class References:
  """Models that others are compared with, each a name or None."""

  base: str | None  # Before unlearning; its training costs nothing.
  filtered: str | None  # Never saw what is to be forgotten: robustness 1.
  unlearned: str | None  # Forgot in its outputs alone: robustness 0.


@record
class Report:
  """What the report compares; it changes no other result."""

  budgets: tuple[int, ...]  # Relearning updates; those that are evaluated.
  # Attacks that the worst case is taken over; (): all whose attacker lacks the base.
  worst_over: tuple[str, ...]
  # An entry of models, swept or not: the page holds the others against those of its
  # members that cost no more.
  rival: str | None
  # Entries of models, swept or not, that are data filtering for other lengths or by
  # other optimizers: a model's compute is also held against the cheapest of their
  # members that retains as much.
  filtering: tuple[str, ...]
  # A model whose retain score is below this share of the base's is broken, and not
  # called robust; of scores that fall, above the base's divided by it.
  smallest_retain: float
  figures: tuple[str, ...]  # Of undo_jax/frontier/figures, or MODULE:NAME.

  def __post_init__(self):
    records.unit(self, "smallest_retain")
    if not self.budgets or min(self.budgets) < 1:
      expected = "at least one number of updates, all >= 1"
      raise FieldError("budgets", expected, self.budgets)
    records.distinct(self, "budgets", "worst_over", "filtering", "figures")


@record
class RunConfig:
  """A whole config."""

  task: str  # Of undo_jax/tasks, or MODULE:NAME.
  seeds: tuple[int, ...]  # Roots of all random streams; a run of each.
  streams: dict[str, int | None]  # Each stream's own seed, where one is given.
  mesh: dict[str, int]
  checkpoint_every: int  # Updates between checkpoints within a stage.
  max_loss: float  # Training stops where a loss is beyond, of either sign.
  evaluation_rows: int  # Rows scored in one forward pass.
  # Members of an attack on a model that train together, to their end; None: all.
  replicas_at_once: int | None
  writers: tuple[str, ...]  # Of training.writers, or MODULE:NAME.
  data: JsonObject
  mixtures: dict[str, dict[str, float]]
  model: ModelConfig
  models: dict[str, Recipe]
  attacks: dict[str, Entry]
  references: References
  report: Report
  search: Search | None = None  # For hyper-parameters, before what the tables say.
  models_at_once: int = 1  # Attacked by one program, at most; see running/sharing.py.
  # Rows that mixtures may name, which classifiers select by a few labelled ones.
  selections: dict[str, Selection] = dataclasses.field(default_factory=dict)
  checkpoints_kept: int = 2  # Of a stage that is not finished; then the last alone.
  # Students of one teacher that take each batch together, at most; 1: it predicts in
  # the step of each. See running/students.py.
  students_at_once: int = 1
  updates_at_once: int = 1  # Of training in one dispatch, at most; see loop.Several.

  def __post_init__(self):
    seeds = self.seeds
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**31 or len({*seeds}) < len(seeds):
      expected = "at least one integer in [0, 2^31), none twice"
      raise FieldError("seeds", expected, seeds)
    for name, value in self.streams.items():
      if name not in streams.NAMES:
        raise FieldError("streams", f"seeds of {', '.join(streams.NAMES)}", name)
      if value is not None and not 0 <= value < 2**31:
        raise FieldError(f"streams.{name}", "None or an integer in [0, 2^31)", value)
    for name, value in self.mesh.items():
      if name not in sharding.AXES:
        raise FieldError("mesh", f"the axes {', '.join(sharding.AXES)}", name)
      if value != -1 and not 0 < value < 2**31:
        raise FieldError(f"mesh.{name}", "a number of devices, or -1: the rest", value)
    records.at_least(self, "checkpoint_every", "evaluation_rows", smallest=1)
    records.at_least(self, "replicas_at_once", "models_at_once", smallest=1)
    records.at_least(self, "checkpoints_kept", "updates_at_once", smallest=1)
    records.at_least(self, "students_at_once", smallest=1)
    records.above(self, "max_loss")
    for table in ("models", "attacks", "selections"):
      for name in getattr(self, table):
        if not NAME.fullmatch(name):
          expected = "names of letters, digits and ._+-"
          raise FieldError(table, expected, name)


# What may differ between the runs of one workdir: how, not what, is computed.
FREE_FIELDS = (
  "mesh",
  "checkpoint_every",
  "max_loss",
  "evaluation_rows",
  "replicas_at_once",
  "models_at_once",
  "students_at_once",
  "updates_at_once",
  "checkpoints_kept",
  "writers",
  "references",
  "report",
  "search",
)


def parse(config: config_dict.ConfigDict | Mapping[str, Any]) -> RunConfig:
  """Return the typed form of a config, its sweeps spelled out.

  Entries whose `run` is False are not in it.

  Raises:
    ConfigError: at the first field that cannot work, whatever else is given; one line.
  """
  raw = plain(config)
  if isinstance(raw.get("search"), dict) and isinstance(raw.get("attacks"), dict):
    search.check_attack(raw["search"], raw["attacks"])
  for table in ("models", "attacks"):
    entries = raw.get(table)
    if isinstance(entries, dict):
      raw[table] = {
        name: entry
        for name, entry in entries.items()
        if not (isinstance(entry, dict) and entry.get("run") is False)
      }
  if isinstance(raw.get("models"), dict):
    raw["models"] = sweeps.spelled_out(raw["models"])
    named = {*raw["models"], *plain(config)["models"]}
    raw["references"] = _present(raw.get("references"), raw["models"], named)
    if isinstance(raw.get("report"), dict):
      raw["report"] = with_families(raw["report"])
      _check_named("report.rival", raw["report"].get("rival"), named)
      filtering = raw["report"].get("filtering")
      for name in filtering if isinstance(filtering, list | tuple) else ():
        _check_named("report.filtering", name, named)
  try:
    return records.from_json(RunConfig, raw)
  except ConfigError as error:
    raise ConfigError(_as_declared(str(error), raw["models"])) from None


def with_families(report: JsonObject) -> JsonObject:
  """Return a report's settings as now: earlier ones named one filtering, or None."""
  filtering = report.get("filtering")
  if filtering is None:
    return report | {"filtering": []}
  return report | {"filtering": [filtering]} if isinstance(filtering, str) else report


def _as_declared(message: str, models: object) -> str:
  """Return an error that names the entry of a swept model, not its member."""
  for name, entry in models.items() if isinstance(models, dict) else ():
    if isinstance(entry, dict) and entry.get("family"):
      message = message.replace(f".models.{name}.", f".models.{entry['family']}.")
  return message


def _present(references: Any, models: Collection[str], named: Collection[str]) -> Any:
  """Return the references without those whose entry is not run.

  Raises:
    ConfigError: if a reference is no entry at all.
  """
  if not isinstance(references, dict):
    return references
  for role, name in references.items():
    _check_named(f"references.{role}", name, named)
  return {role: name if name in models else None for role, name in references.items()}


def _check_named(field: str, name: object, entries: Collection[str]) -> None:
  if name is not None and not (isinstance(name, str) and name in entries):
    expected = f"None or one of {', '.join(sorted(entries))}"
    raise records.fixable(FieldError(f"config.{field}", expected, name))


def plain(config: config_dict.ConfigDict | Mapping[str, Any]) -> JsonObject:
  """Return a config as JSON has it: tuples are lists, no clipping is None."""
  values = config.to_dict() if isinstance(config, config_dict.ConfigDict) else config
  return _plain(dict(values), "")


def _plain(value: object, name: str) -> Any:
  if isinstance(value, Mapping):
    return {str(key): _plain(item, str(key)) for key, item in value.items()}
  if isinstance(value, tuple | list):
    return [_plain(item, name) for item in value]
  if name == "clip_norm" and value == math.inf:
    return None
  return value
