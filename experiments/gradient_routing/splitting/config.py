"""The config, which checks itself; configs/gradient_routing describes its fields."""

from collections.abc import Mapping
import dataclasses

import numpy as np

from undo_jax.utils import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """The images to train on; see data.images.load."""

  path: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """Sizes of the networks."""

  hidden: tuple[int, ...]
  latent: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """Training, the same for all settings."""

  num_epochs: int
  batch_size: int
  learning_rate: float
  weight_decay: float
  evaluate_every: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """A setting: how one training differs from another."""

  masks: tuple[tuple[float, ...], ...]  # 2 groups x 2 halves.
  seen: tuple[float, ...]  # 2 groups.
  l1: tuple[float, ...]  # 2 halves.
  correlation: float
  separate_decoders: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seeds: tuple[int, ...]
  replicas_at_once: int
  data: Data
  model: Model
  training: Training
  settings: Mapping[str, Setting]
  run: tuple[str, ...]

  def __post_init__(self):
    checks.seeds(self)
    for name in ("replicas_at_once", "model.latent", "training.num_epochs"):
      checks.at_least(self, name, 1)
    for name in ("training.batch_size", "training.evaluate_every"):
      checks.at_least(self, name, 1)
    if self.model.latent % 2:
      checks.fail("model.latent", "an even number, for two halves", self.model.latent)
    checks.integers(self, "model.hidden", 1)
    for name, smallest in (("learning_rate", 1e-30), ("weight_decay", 0.0)):
      value = getattr(self.training, name)
      if not checks.is_number(value) or value < smallest:
        expected = "a number of at least 0" if smallest == 0 else "a number above 0"
        checks.fail(f"training.{name}", expected, value)
    unknown = [name for name in self.run if name not in self.settings]
    if not self.run or unknown or len(set(self.run)) != len(self.run):
      known = ", ".join(self.settings)
      checks.fail("run", f"some of config.settings, none twice: {known}", self.run)
    for name in self.run:
      _check_setting(name, self.settings[name])


def _check_setting(name: str, setting: Setting) -> None:
  for field in ("masks", "seen", "l1"):
    values = np.asarray(getattr(setting, field), dtype=object)
    shape = (2, 2) if field == "masks" else (2,)
    if values.shape != shape or not all(checks.is_number(x) for x in values.flat):
      expected = f"numbers of the shape {shape}"
      checks.fail(f"settings.{name}.{field}", expected, getattr(setting, field))
  if set(setting.seen) - {0, 1} or not any(setting.seen):
    checks.fail(f"settings.{name}.seen", "0 or 1, one of them 1", setting.seen)
  if not checks.is_number(setting.correlation):
    checks.fail(f"settings.{name}.correlation", "a number", setting.correlation)
