"""The config, which checks itself; configs/gradient_routing describes its fields."""

from collections.abc import Mapping
import dataclasses

from undo_jax.utils import checks

EXPERTS = ("mixture", "single")
REWARDS = ("reached", "overseen", "true")
UPDATES = ("all", "share")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environments:
  """The number of environments, and their steps between updates."""

  num_environments: int
  rollout_steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """Widths of the networks."""

  width: int
  value_widths: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """Training, the same for all methods."""

  num_updates: int
  learning_rate: float
  discount: float
  value_weight: float
  entropy_weight: float
  gate_weight: float
  bootstrap: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """The points of the learning curve, and the environments of each point."""

  num_evaluations: int
  num_environments: int
  steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """A method: what is trained, and on what."""

  experts: str  # One of EXPERTS, see policy.
  routed: bool  # Whether the label of an episode routes its gradients.
  gate: float | None  # A constant in place of the trained gate.
  gate_relu: bool  # See policy.apply.
  reward: str  # One of REWARDS, see training.reward.
  filtered: bool  # Trained on known ends alone: overseen, or nothing reached.
  updates: str  # One of UPDATES, see `Config.num_updates`.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The whole study."""

  seeds: tuple[int, ...]
  oversight: tuple[float, ...]
  replicas_at_once: int
  environments: Environments
  model: Model
  training: Training
  evaluation: Evaluation
  methods: Mapping[str, Method]
  run: tuple[str, ...]

  def __post_init__(self):
    checks.seeds(self)
    for name in (
      "replicas_at_once",
      "environments.num_environments",
      "environments.rollout_steps",
      "model.width",
      "training.num_updates",
      "evaluation.num_evaluations",
      "evaluation.num_environments",
      "evaluation.steps",
    ):
      checks.at_least(self, name, 1)
    levels = self.oversight
    if not levels or len(set(levels)) != len(levels):
      checks.fail("oversight", "at least one probability, none twice", levels)
    for level in levels:
      checks.unit("oversight", level)
    checks.unit("training.discount", self.training.discount)
    if self.model.value_widths:  # Without hidden layers it is linear.
      checks.integers(self, "model.value_widths", 1)
    for name in ("learning_rate", "value_weight", "entropy_weight", "gate_weight"):
      value = getattr(self.training, name)
      if not checks.is_number(value) or value < 0:
        checks.fail(f"training.{name}", "a number of at least 0", value)
    unknown = [name for name in self.run if name not in self.methods]
    if not self.run or unknown or len(set(self.run)) != len(self.run):
      known = ", ".join(self.methods)
      checks.fail("run", f"some of config.methods, none twice: {known}", self.run)
    for name in self.run:
      _check_method(name, self.methods[name])

  @property
  def steps_per_update(self) -> int:
    """Environment steps of one rollout."""
    return self.environments.num_environments * self.environments.rollout_steps

  def num_updates(self, method: str, level: float) -> int:
    """Return a training's number of updates: all, or the share that is overseen."""
    updates = self.training.num_updates
    if self.methods[method].updates == "all":
      return updates
    return max(1, int(updates * level))


def _check_method(name: str, method: Method) -> None:
  for field, value, known in (
    ("experts", method.experts, EXPERTS),
    ("reward", method.reward, REWARDS),
    ("updates", method.updates, UPDATES),
  ):
    if value not in known:
      checks.fail(f"methods.{name}.{field}", f"one of {', '.join(known)}", value)
  if method.experts == "single" and (method.routed or method.gate is not None):
    checks.fail(
      f"methods.{name}.experts", "mixture where routed or gate is set", method.experts
    )
  if method.gate is not None:
    checks.unit(f"methods.{name}.gate", method.gate)
