"""results.json: the results of runs, as records.

Nothing here trains or holds a model: reading.py makes results from run directories,
merging.py puts those of several together. Numbers are the same, bit for bit, whenever a
run is repeated or resumed.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from undo_jax.frontier.labels import LabelBudget
from undo_jax.plan.config import Phase, References, Report, with_families
from undo_jax.utils import records
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import record
from undo_jax.utils.types import JsonObject

SCHEMA = 3
Score = float | None  # None: not finite, the member has diverged.


@record
class Metric:
  """What a score measures."""

  name: str
  unit: str
  range: tuple[float | None, float | None]
  higher_is: Literal["more capable", "less capable"]


@record
class Scores:
  """Of one model before an attack."""

  retain: Score
  forget: Score
  by_task: dict[str, Score]


@record
class Relearning:
  """One model under one attack: A seeds of it, R learning rates, S evaluated steps.

  The worst case within a step is over seeds, rates and all steps up to it: an attacker
  may stop early. An edit of the weights has strengths for rates, and step 0 alone.
  """

  learning_rates: tuple[float, ...]  # [R], of an edit its strengths.
  steps: tuple[int, ...]  # [S], from 0: before the first update.
  forget: tuple[tuple[tuple[Score, ...], ...], ...]  # [A][R][S]
  retain_of_all: tuple[tuple[tuple[Score, ...], ...], ...]  # [A][R][S]
  worst_forget: tuple[float, ...]  # [S], within each step, for the attacker's good.
  forget_at_step: tuple[float, ...]  # [S], likewise at that step alone.
  worst_learning_rate: tuple[float, ...]  # [S], which of them it was within each step.
  retain: tuple[Score, ...]  # [S], where the forget score is the worst.
  by_task: dict[str, tuple[Score, ...]]  # [S], likewise.
  forget_by_learning_rate: tuple[tuple[Score, ...], ...]  # [R][S], mean over seeds.
  retain_by_learning_rate: tuple[tuple[Score, ...], ...]  # [R][S], likewise.
  directories: tuple[str, ...]  # [A], below WORKDIR/stages.
  tokens_per_update: int  # That an attacker with one learning rate reads.
  flops_per_update: int  # Likewise.

  @property
  def is_edit(self) -> bool:
    """Whether nothing was trained: the model is scored as it was edited."""
    return self.steps == (0,)


@record
class Cost:
  """The cost of a model: its own training and that of all models it is made from.

  Models that do not count (the base, as a rule) and evaluation are not in it.
  """

  updates: int  # Optimizer steps.
  tokens: int  # Positions that went through a trained model.
  flops: int  # Multiplications and additions of all passes.
  fraction_of_filtered: float | None  # Of data filtering's FLOPs, where there is one.


@record
class Stopped:
  """How a model's training ended."""

  reason: str
  updates: int


@record
class Ablation:
  """The scores of a model before its reserved units were ablated."""

  before: Scores
  mlp_units: int  # Of each layer.
  kv_heads: int


@record
class ModelRun:
  """One model of one seed."""

  seed: int
  workdir: str | None  # Where it was run, from the page; None: where the page is.
  directory: str  # Below WORKDIR/stages.
  before: Scores
  attacks: dict[str, Relearning]
  compute: Cost
  labels: LabelBudget
  stopped: Stopped
  ablation: Ablation | None


@record
class ModelResult:
  """A row of the table of models, in the order of the config."""

  label: str
  color: str | None  # Or, of a family, the colormap of its members.
  marker: str | None
  family: str | None  # The entry whose sweep it is a member of.
  swept: JsonObject  # The sweep's values by field.
  phase: Phase
  recipe: str  # Hexadecimal, of all that makes it but the seeds.
  runs: tuple[ModelRun, ...]  # In the order of the seeds.


@record
class Adversary:
  """A row of the table of attacks."""

  label: str
  # A sentence's subject: what its members train. Of an edit a sentence: what it does.
  trains: str
  noise: float  # Of the attacked model, alpha; 0: none.
  paths: tuple[str, ...]  # Path regexes of what is trained, where that is a part.
  assumes: Annotated[tuple[str, ...], records.later(())] = ()  # What the attacker has.
  # Whether the base's weights are among it.
  has_base: Annotated[bool, records.later(False)] = False
  # What a strength is, of an edit; None: members train, each at a learning rate.
  strength: Annotated[str | None, records.later(None)] = None
  # Whether it is a diagnostic of what a model holds, which no worst case is over.
  is_reading: Annotated[bool, records.later(False)] = False
  # Whether what lies beyond the grid may be worse than the worst at its end.
  goes_on: Annotated[bool, records.later(True)] = True

  @property
  def is_edit(self) -> bool:
    """Whether nothing is trained."""
    return self.strength is not None

  @property
  def grid(self) -> str:
    """What its members differ in."""
    return "strength" if self.is_edit else "learning rate"


@record
class Apart:
  """The items of one data stage that are attacked, scored or read by stop rules.

  No item is of two kinds: the stage compares their hashes, and fails on the first that
  two kinds share. undo_jax/tasks/apart.py says what is compared.
  """

  workdir: str | None = None  # As ModelRun's.
  directory: str = ""  # Of the stage, likewise.
  seeds: tuple[int, ...] = ()  # Of the runs that read its data.
  what: str  # The items in words.
  items: dict[str, int]  # How many different ones there are of each kind.
  digests: dict[str, str]  # Of their sorted hashes.
  shared: int  # Hashes of two kinds.
  splits: tuple[str, ...]  # That the attacked items are those of.
  others: tuple[str, ...]  # Splits to be forgotten that hold scored items too.
  note: str  # What the comparison does not say.


@record
class Measured:
  """A mean over seeds."""

  value: float
  half_width: float | None  # Of its 95 % interval; None: one seed has none.


@record
class Standing:
  """The member that stands for a family, by the largest budget the config names."""

  model: str
  retain: Measured | None  # Before the attack.
  worst_forget: Measured | None  # None: it was not attacked.
  robustness: Measured | None  # None: likewise, or no references scale it.
  flops: float
  fraction_of_filtered: Measured | None
  directories: tuple[str, ...]  # Of its seeds, below WORKDIR/stages.


@record
class AtRetain:
  """A family at one retain score; frontier/matched.py says how its member is chosen."""

  rule: Literal["cheapest", "most robust"]
  loss: float  # Points of the retain score that may be lost.
  level: float  # The retain score that is left.
  family: str = ""
  most_retained: float | None = None  # The best of its members' retain scores.
  standing: Standing | None = None  # None: no member keeps the level.


@record
class Results:
  """All that the page is made from."""

  schema: Literal[3]
  task: str
  seeds: tuple[int, ...]  # Of all models together.
  # What must be the same where results are compared: data, model, attacks.
  protocol: JsonObject
  # Of "retain", "forget" and, where what the attacker reads is scored apart,
  # "forget_attacked", which is among the scores by task.
  metrics: dict[str, Metric]
  items: dict[str, int]  # How many are scored for each metric, where they are counted.
  references: References
  report: Report
  attacks: dict[str, Adversary]
  models: dict[str, ModelResult]
  apart: tuple[Apart, ...] = ()  # Empty: of before it was recorded.
  at_retain: tuple[AtRetain, ...] = ()  # Who stands for each family, by what it keeps.


def to_json(results: Results) -> JsonObject:
  """Return the content of results.json."""
  return records.to_json(results)


def from_json(value: Mapping[str, object], *, path: str) -> Results:
  """Return the results of a results.json; raise ConfigError on another schema."""
  if value.get("schema") != SCHEMA:
    raise ConfigError(
      f"{path}: expected results of schema {SCHEMA}, got {value.get('schema')!r}; they "
      "are of another version of undo_jax: run it again in a new directory"
    )
  shown = value.get("report")
  if isinstance(shown, dict):
    value = {**value, "report": with_families(shown)}
  return records.from_json(Results, value, path=path)
