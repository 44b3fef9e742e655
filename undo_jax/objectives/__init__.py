"""The registry of objectives: a new method is one file and one line here."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any

from undo_jax.objectives import (
  cross_entropy,
  distillation,
  grad_diff,
  max_ent,
  rep_noise,
  retention,
  rmu,
  routed,
)
from undo_jax.utils.types import ConfigError, Objective


@dataclasses.dataclass(frozen=True)
class Method:
  """How an objective is made and which passes one update costs.

  `trains` and `reads` name the parts of a batch that go through the trained
  model (forward and backward) and through a frozen one (forward only); "batch"
  is a batch without parts. Compute accounting reads them. They hold for the default
  options; `method` tells them for others.
  """

  make: Callable[..., Objective]
  trains: tuple[str, ...]
  reads: tuple[str, ...] = ()
  frozen: tuple[str, ...] = ()  # Keys of the frozen tree that it needs.
  # Parts whose every hidden state is unembedded, in training.
  unembeds: tuple[str, ...] = ()
  # Fields that options change: `needs(**options)` returns their values.
  needs: Callable[..., dict[str, Any]] | None = None


REGISTRY = {
  "cross_entropy": Method(cross_entropy.make, ("batch",)),
  "forward_kl": Method(
    distillation.make, ("batch",), ("batch",), ("teacher",), needs=distillation.needs
  ),
  "grad_diff": Method(grad_diff.make, ("forget", "retain"), needs=retention.needs),
  "max_ent": Method(max_ent.make, ("forget", "retain"), needs=retention.needs),
  "max_ent_rep_noise": Method(
    rep_noise.make, ("forget", "retain"), unembeds=("forget",), needs=retention.needs
  ),
  "rmu": Method(
    rmu.make, ("forget", "retain"), ("retain",), ("reference", "direction")
  ),
  "routed": Method(routed.make, ("batch",), needs=routed.needs),
  "routed_forward_kl": Method(
    routed.make_distillation, ("batch",), ("batch",), ("teacher",), needs=routed.needs
  ),
  # Its parts are those of one batch: every row goes through the model once.
  "sgtm": Method(routed.make_sgtm, ("batch",)),
  "sgtm_forward_kl": Method(
    routed.make_sgtm_distillation, ("batch",), ("batch",), ("teacher",)
  ),
}


def method(name: str, options: dict[str, Any]) -> Method:
  """Returns the method registered as `name`, its passes those under `options`."""
  found = REGISTRY[name]
  return dataclasses.replace(found, **found.needs(**options)) if found.needs else found


def check(name: str, options: dict[str, Any]) -> None:
  """Raises ConfigError if `name` is not registered or `options` do not fit it."""
  if name not in REGISTRY:
    raise ConfigError(
      f"unknown objective {name!r}; the registered ones are {', '.join(REGISTRY)}"
    )
  defaults = _defaults(name)
  required = {option for option, value in defaults.items() if value is _REQUIRED}
  if not required <= set(options) <= set(defaults):
    raise ConfigError(
      f"objective {name!r} takes the options {sorted(defaults)}, of which "
      f"{sorted(required)} must be given, got {sorted(options)}"
    )


def stated(name: str, options: dict[str, Any]) -> dict[str, Any]:
  """Returns the options that are not at the method's defaults.

  They determine a stage as all do, and an option that is new leaves it as it was.
  """
  defaults = _defaults(name)
  return {key: value for key, value in options.items() if value != defaults[key]}


_REQUIRED = inspect.Parameter.empty


def _defaults(name: str) -> dict[str, Any]:
  parameters = list(inspect.signature(REGISTRY[name].make).parameters.values())[1:]
  return {parameter.name: parameter.default for parameter in parameters}


def make(name: str, apply: Callable, **options: Any) -> Objective:
  """Returns the objective registered as `name`; see `check` for what it raises."""
  check(name, options)
  return REGISTRY[name].make(apply, **options)
