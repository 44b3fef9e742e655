"""The config, which checks itself; configs/gradient_routing describes its fields."""

import dataclasses

from experiments.gradient_routing.stories import corpus
from experiments.gradient_routing.stories.corpus import Data
from undo_jax.data.documents import source as document_source
from undo_jax.models.config import ModelConfig
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.utils import checks
from undo_jax.utils.types import ConfigError

# Trained at each labelled fraction; at 0, the first two are base and control.
METHODS = ("filtering", "era", "era_coherent", "sgtm", "rmu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(OptimizerConfig):
  """Training, on batches with rows of both kinds of stories."""

  forget_rows: int
  retain_rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routing:
  """Settings of control, era and era_coherent."""

  layers: tuple[int, ...]
  mlp_units: int
  old_target: float
  coherence_weight: float
  l1_weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sgtm:
  """Settings of sgtm."""

  mlp_units: int
  kv_heads: int
  retain_labelled: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rmu(OptimizerConfig):
  """Settings of rmu: its options and its training."""

  layers: tuple[int, ...]
  coefficient: float
  retain_weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repair(OptimizerConfig):
  """A few updates of an ablated model on a few stories."""

  num_stories: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrain:
  """Retraining by an adversary: full batches at several learning rates."""

  num_stories: tuple[int, ...]
  num_steps: int
  evaluate_every: int
  learning_rates: tuple[float, ...]
  weight_decay: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """The held-out stories of each kind that are scored."""

  num_rows: int
  rows_at_once: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shared:
  """The blocks that both studies of stories have."""

  seeds: tuple[int, ...]
  data: Data
  model: ModelConfig
  train: Train
  evaluation: Evaluation

  def __post_init__(self):
    checks.seeds(self)
    for name in ("num_forget", "num_retain", "num_held_out", "max_characters"):
      checks.at_least(self, f"data.{name}", 1)
    checks.at_least(self, "data.length", 2)
    checks.unit("data.held_out_fraction", self.data.held_out_fraction)
    if self.data.paths and not self.data.forget_words:
      checks.fail("data.forget_words", "the topic's words in these files", ())
    try:  # Before the workdir becomes this config's.
      document_source.find(self.data.paths)
    except ConfigError as error:
      raise ConfigError(f"config.data.paths: {error}") from None
    for name in ("num_steps", "forget_rows", "retain_rows"):
      checks.at_least(self, f"train.{name}", 1)
    for name in ("num_rows", "rows_at_once"):
      checks.at_least(self, f"evaluation.{name}", 1)
    checks.at_least(self, "data.num_held_out", self.evaluation.num_rows)
    tokenizer = corpus.make_tokenizer(self.data.tokenizer)
    if self.model.vocab_size < tokenizer.vocab_size:
      checks.fail(
        "model.vocab_size",
        f"at least {tokenizer.vocab_size}, that of {self.data.tokenizer!r}",
        self.model.vocab_size,
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Shared):
  """The whole study."""

  labelled: tuple[float, ...]
  methods: tuple[str, ...]
  routing: Routing
  sgtm: Sgtm
  rmu: Rmu
  repair: Repair
  retrain: Retrain

  def __post_init__(self):
    super().__post_init__()
    for fraction in self.labelled:
      checks.unit("labelled", fraction)
    methods = self.methods
    if not set(METHODS) >= set(methods) or methods[:1] != METHODS[:1]:
      checks.fail("methods", f"{METHODS[0]!r} and others of {METHODS[1:]}", methods)
    if not self.labelled or self.labelled[0] != 0:
      checks.fail("labelled", "fractions, the first of them 0", self.labelled)
    self._check_retraining()
    for name in ("repair.num_stories", "repair.num_steps", "rmu.num_steps"):
      checks.at_least(self, name, 1)
    least = self.evaluation.num_rows + self.repair.num_stories
    checks.at_least(self, "data.num_retain", least)
    if self.rmu.num_steps > self.train.num_steps:
      checks.fail(
        "rmu.num_steps", f"at most {self.train.num_steps}", self.rmu.num_steps
      )
    for name in ("coherence_weight", "l1_weight"):
      weight = getattr(self.routing, name)
      if not checks.is_number(weight) or weight < 0:
        checks.fail(f"routing.{name}", "a number of at least 0", weight)
    num_layers = self.model.num_layers
    for name, layers in (("routing", self.routing.layers), ("rmu", self.rmu.layers)):
      if not layers or min(layers) < 0 or max(layers) >= num_layers:
        checks.fail(f"{name}.layers", f"layers in [0, {num_layers})", layers)
    checks.unit("sgtm.retain_labelled", self.sgtm.retain_labelled)

  def _check_retraining(self) -> None:
    retrain = self.retrain
    checks.at_least(self, "retrain.evaluate_every", 1)
    if retrain.num_steps % retrain.evaluate_every:
      checks.fail(
        "retrain.num_steps", "a multiple of retrain.evaluate_every", retrain.num_steps
      )
    checks.integers(self, "retrain.num_stories", 1)
    checks.numbers(self, "retrain.learning_rates", above=0)
    least = self.evaluation.num_rows + max(retrain.num_stories)
    checks.at_least(self, "data.num_held_out", least)
