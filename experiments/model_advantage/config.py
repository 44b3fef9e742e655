"""The config, which checks itself; configs/model_advantage describes its fields."""

import dataclasses

from undo_jax.utils import checks

ENVIRONMENTS = ("pendulum", "cartpole")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
  """Random MDPs and models of them."""

  count: int
  states: int
  actions: int
  discount: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy:
  """The toy with a distractor."""

  starts: int
  states: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
  """Model-based control."""

  environments: tuple[str, ...]
  seeds: int
  stages: int
  real_episodes: int
  steps: int
  iterations: int
  model_steps: int
  refit_every: int
  model_batch: int
  policy_steps: int
  imagined_episodes: int
  value_steps: int
  judged_episodes: int
  learning_rate: float
  max_kl: float
  discount: float
  mix: float
  model_widths: tuple[int, ...]
  policy_widths: tuple[int, ...]
  value_widths: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seed: int
  tables: Tables
  toy: Toy
  control: Control

  def __post_init__(self):
    checks.at_least(self, "seed", 0)
    for name in ("tables.count", "tables.actions", "toy.starts", "toy.states"):
      checks.at_least(self, name, 1)
    checks.at_least(self, "tables.states", 2)
    _check_control(self)
    for name in ("tables.discount", "control.discount", "control.mix"):
      value = checks.field(self, name)
      if not checks.is_number(value) or not 0 <= value < 1:
        checks.fail(name, "a number in [0, 1)", value)


def _check_control(config: Config) -> None:
  """Raise ConfigError unless the control's fields are as they must be."""
  control = config.control
  if not set(control.environments) <= set(ENVIRONMENTS):
    known = ", ".join(ENVIRONMENTS)
    checks.fail("control.environments", f"some of {known}", control.environments)
  for field in dataclasses.fields(Control):
    if field.type is int:
      checks.at_least(config, f"control.{field.name}", 1)
    if field.name.endswith("_widths"):
      checks.integers(config, f"control.{field.name}", 1)
  checks.at_least(config, "control.seeds", 2)  # An interval needs two.
  checks.at_least(config, "control.steps", 3)  # A pair of steps, and one more.
  if control.model_steps % control.refit_every:
    expected = f"a divisor of {control.model_steps} model steps"
    checks.fail("control.refit_every", expected, control.refit_every)
  for name in ("learning_rate", "max_kl"):
    value = getattr(control, name)
    if not checks.is_number(value) or value <= 0:
      checks.fail(f"control.{name}", "a number above 0", value)
