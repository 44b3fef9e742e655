"""The config, which checks itself; configs/gradient_routing describes its fields."""

from collections.abc import Mapping
import dataclasses

import jax

from undo_jax.utils import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoParameters:
  """Gradient descent on the two parameters."""

  coherence: tuple[float, ...]
  num_steps: int
  learning_rate: float
  record_every: int


@jax.tree_util.register_dataclass  # One program trains all ways.
@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
  """How the two tasks are trained."""

  old_units: float | jax.Array
  old_parameters: float | jax.Array
  new_retain: float | jax.Array
  coherence: float | jax.Array
  sgtm: float | jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoTasks:
  """The network of the two tasks and its training."""

  old_units: int
  new_units: int
  rows: int
  num_steps: int
  learning_rate: float
  num_evaluation: int
  ways: Mapping[str, Way]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seeds: tuple[int, ...]
  two_parameters: TwoParameters
  two_tasks: TwoTasks

  def __post_init__(self):
    checks.seeds(self)
    for name in ("two_parameters.num_steps", "two_parameters.record_every"):
      checks.at_least(self, name, 1)
    checks.numbers(self, "two_parameters.coherence")
    if min(self.two_parameters.coherence) < 0:
      checks.fail(
        "two_parameters.coherence", "weights >= 0", self.two_parameters.coherence
      )
    for name in ("old_units", "new_units", "rows", "num_steps", "num_evaluation"):
      checks.at_least(self, f"two_tasks.{name}", 1)
    if not self.two_tasks.ways:
      checks.fail("two_tasks.ways", "at least one way to train", {})
