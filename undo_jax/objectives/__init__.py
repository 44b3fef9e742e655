"""The registry of objectives: a new method is one file and one line here."""

from collections.abc import Callable
import dataclasses
import inspect

from undo_jax.objectives import (
  adaptive_rmu,
  ce_u,
  circuit_breakers,
  cross_entropy,
  distance,
  distillation,
  grad_diff,
  idk_dpo,
  invariant,
  jensun,
  latent_adversarial,
  max_ent,
  mudman,
  npo,
  rep_noise,
  rep_select,
  rmu,
  routed,
  routed_distillation,
  satimp,
  sgtm,
  sgtm_distillation,
  simnpo,
  tamper_resistance,
  undial,
  wga,
)
from undo_jax.objectives.method import Method
from undo_jax.objectives.routed import Routing
from undo_jax.utils import records
from undo_jax.utils.registry import Registry
from undo_jax.utils.types import ConfigError, JsonObject, Objective, Options

REGISTRY: Registry[Method] = Registry(
  "objective",
  Method,
  {
    "adaptive_rmu": adaptive_rmu.METHOD,
    "ce_u": ce_u.METHOD,
    "circuit_breakers": circuit_breakers.METHOD,
    "cross_entropy": cross_entropy.METHOD,
    "distance": distance.METHOD,
    "forward_kl": distillation.METHOD,
    "grad_diff": grad_diff.METHOD,
    "idk_dpo": idk_dpo.METHOD,
    "invariant": invariant.METHOD,
    "jensun": jensun.METHOD,
    "latent_adversarial": latent_adversarial.METHOD,
    "max_ent": max_ent.METHOD,
    "max_ent_rep_noise": rep_noise.METHOD,
    "mudman": mudman.METHOD,
    "npo": npo.METHOD,
    "rep_select": rep_select.METHOD,
    "rmu": rmu.METHOD,
    "routed": routed.METHOD,
    "routed_forward_kl": routed_distillation.METHOD,
    "satimp": satimp.METHOD,
    "sgtm": sgtm.METHOD,
    "sgtm_forward_kl": sgtm_distillation.METHOD,
    "simnpo": simnpo.METHOD,
    "tamper_resistance": tamper_resistance.METHOD,
    "undial": undial.METHOD,
    "wga": wga.METHOD,
  },
)
_REQUIRED = inspect.Parameter.empty


def method(name: str, options: Options) -> Method:
  """Return the method of a name, its passes those under `options`."""
  known = REGISTRY.get(name)
  return dataclasses.replace(known, **known.needs(**options)) if known.needs else known


def check(name: str, options: Options) -> None:
  """Raise ConfigError if there is no such method or `options` do not fit it.

  A FieldError where one of them is not of the type that it is annotated with.
  """
  defaults = _defaults(name)
  required = {option for option, value in defaults.items() if value is _REQUIRED}
  if not required <= set(options) <= set(defaults):
    raise ConfigError(
      f"objective {name!r} takes the options {sorted(defaults)}, of which "
      f"{sorted(required)} must be given, got {sorted(options)}"
    )
  types = inspect.get_annotations(REGISTRY.get(name).make)
  for option in set(options) & set(types) - {"routing"}:
    records.check_type(types[option], options[option], option)


def takes(name: str, option: str) -> bool:
  """Whether a method has an option of a name."""
  return option in _defaults(name)


def stated(name: str, options: Options) -> JsonObject:
  """Return the options that are not at the method's defaults.

  They determine a stage as all do, and an option that is new leaves it as it was.
  """
  defaults = _defaults(name)
  return {key: value for key, value in options.items() if value != defaults[key]}


def _defaults(name: str) -> JsonObject:
  """Return the options of a method with their defaults, less what a run puts in."""
  parameters = list(inspect.signature(REGISTRY.get(name).make).parameters.values())[1:]
  return {p.name: p.default for p in parameters}


def make(name: str, apply: Callable, **options: object) -> Objective:
  """Return the objective of a name; see `check` for what it raises."""
  check(name, options)
  return REGISTRY.get(name).make(apply, **options)


routing = Routing  # What a run puts into the options of methods that route.
