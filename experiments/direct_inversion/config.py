"""The config, which checks itself; configs/direct_inversion describes its fields."""

import dataclasses

from experiments.direct_inversion.inversion import Hyperparameters
from experiments.direct_inversion.schedule import TRAIN_STEPS
from undo_jax.data.images import Images
from undo_jax.utils import checks

_CLASSES = ("edits.source", "edits.target", "unlearning.label", "probe.other")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """The images to train on; see data.images.load."""

  path: str
  shrink: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """The noise schedule; see schedule.alpha_bars."""

  beta_start: float
  beta_end: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """Sizes of the network."""

  width: int
  depth: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """Training from random weights."""

  num_updates: int
  learning_rate: float
  batch_size: int
  label_dropout: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edits:
  """Edits of images of one class into another."""

  source: int
  target: int
  images: int
  guidance_scales: tuple[float, ...]
  noise_merge_lambdas: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction:
  """Inversion and back."""

  num_steps: tuple[int, ...]
  images: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unlearning:
  """Unlearning of one class."""

  label: int
  num_updates: int
  learning_rate: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Undo:
  """Noise and distillation."""

  alphas: tuple[float, ...]
  beta: float
  num_updates: int
  learning_rate: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
  """Recovery of the unlearned class by inversion."""

  other: int
  images: int
  noise_merge_lambdas: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relearning:
  """Relearning by updates on the unlearned class."""

  num_updates: tuple[int, ...]
  learning_rates: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """Samples that are judged."""

  samples: int
  other_samples: int
  num_inference_steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seeds: tuple[int, ...]
  seeds_at_once: int
  data: Data
  schedule: Schedule
  model: Model
  training: Training
  edit: Hyperparameters
  edits: Edits
  reconstruction: Reconstruction
  unlearning: Unlearning
  undo: Undo
  probe: Probe
  relearning: Relearning
  evaluation: Evaluation

  def __post_init__(self):
    checks.seeds(self)
    for name in (
      *("seeds_at_once", "data.shrink", "model.width", "model.depth"),
      *("training.num_updates", "training.batch_size", "unlearning.num_updates"),
      *("undo.num_updates", "edits.images", "reconstruction.images", "probe.images"),
      *("evaluation.samples", "evaluation.other_samples"),
    ):
      checks.at_least(self, name, 1)
    for name in _CLASSES:
      checks.at_least(self, name, 0)
    _check_numbers(self)
    steps = (self.evaluation.num_inference_steps,)
    for name, values in (
      ("evaluation.num_inference_steps", steps),
      ("reconstruction.num_steps", self.reconstruction.num_steps),
    ):
      if not values or any(s < 1 or TRAIN_STEPS % s for s in values):
        checks.fail(name, f"divisors of {TRAIN_STEPS}", values)
    checks.integers(self, "relearning.num_updates", 1)

  def check_classes(self, images: Images) -> None:
    """Raise ConfigError unless the images have the classes that are named."""
    last = images.num_classes - 1
    for name in _CLASSES:
      if checks.field(self, name) not in images.test_labels:
        expected = f"a class of held-out images, of 0 to {last}"
        checks.fail(name, expected, checks.field(self, name))
    prompt = self.edit.inversion_prompt
    if prompt and prompt not in map(str, range(images.num_classes)):
      checks.fail("edit.inversion_prompt", f'"", or "0" to "{last}"', prompt)


def _check_numbers(config: Config) -> None:
  """Raise ConfigError unless every number that is no integer lies in its range."""
  first, last = config.schedule.beta_start, config.schedule.beta_end
  if not 0 < first < last < 1:
    expected = "0 < beta_start < beta_end < 1"
    checks.fail("schedule", expected, f"{first} and {last}")
  for name in ("training", "unlearning", "undo"):
    rate = getattr(config, name).learning_rate
    if not checks.is_number(rate) or rate <= 0:
      checks.fail(f"{name}.learning_rate", "a number above 0", rate)
  if not 0 <= config.training.label_dropout < 1:
    got = config.training.label_dropout
    checks.fail("training.label_dropout", "a number in [0, 1)", got)
  checks.unit("undo.beta", config.undo.beta)
  checks.numbers(config, "undo.alphas", above=0)
  checks.numbers(config, "relearning.learning_rates", above=0)
  checks.numbers(config, "edits.guidance_scales")
  for name in (
    "undo.alphas",
    "edits.noise_merge_lambdas",
    "probe.noise_merge_lambdas",
  ):
    checks.numbers(config, name)
    for value in checks.field(config, name):
      checks.unit(name, value)
