"""The registry of objectives: a new method is one file and one line here."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any

from undo_jax.objectives import cross_entropy, distillation, grad_diff, max_ent, rmu
from undo_jax.types import ConfigError, Objective


@dataclasses.dataclass(frozen=True)
class Method:
  """How an objective is made and which passes one update costs.

  `trains` and `reads` name the parts of a batch that go through the trained
  model (forward and backward) and through a frozen one (forward only); "batch"
  is a batch without parts. Compute accounting reads them.
  """

  make: Callable[..., Objective]
  trains: tuple[str, ...]
  reads: tuple[str, ...] = ()
  frozen: tuple[str, ...] = ()  # Keys of the frozen tree that it needs.


REGISTRY = {
  "cross_entropy": Method(cross_entropy.make, ("batch",)),
  "forward_kl": Method(distillation.make, ("batch",), ("batch",), ("teacher",)),
  "grad_diff": Method(grad_diff.make, ("forget", "retain")),
  "max_ent": Method(max_ent.make, ("forget", "retain")),
  "rmu": Method(
    rmu.make, ("forget", "retain"), ("retain",), ("reference", "direction")
  ),
}


def check(name: str, options: dict[str, Any]) -> None:
  """Raises ConfigError if `name` is not registered or `options` do not fit it."""
  if name not in REGISTRY:
    raise ConfigError(
      f"unknown objective {name!r}; the registered ones are {', '.join(REGISTRY)}"
    )
  parameters = list(inspect.signature(REGISTRY[name].make).parameters)[1:]
  if set(options) != set(parameters):
    raise ConfigError(
      f"objective {name!r} takes the options {sorted(parameters)}, "
      f"got {sorted(options)}"
    )


def make(name: str, apply: Callable, **options: Any) -> Objective:
  """Returns the objective registered as `name`; see `check` for what it raises."""
  check(name, options)
  return REGISTRY[name].make(apply, **options)
