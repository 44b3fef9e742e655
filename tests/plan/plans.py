"""Configs with changes and their plans, for tests of what is planned."""

from undo_jax import config as builders
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse


def overridden(name="arithmetic:tiny", **changes):
  config = builders.shipped(name)
  flat = {name.replace("__", "."): value for name, value in changes.items()}
  config.update_from_flattened_dict(flat)
  return config


def plan(name="arithmetic:tiny", seed=0, **changes):
  return translation.plan(parse(overridden(name, **changes)), seed)


def by_name(*args, **changes):
  return {stage.name: stage for stage in plan(*args, **changes)}


def identities(*args, **changes):
  return stages.identities(plan(*args, **changes))


def changed(**changes):
  """Name of the stages that a change gives another identity."""
  before, after = identities(), identities(**changes)
  assert list(before) == list(after)
  return {name for name in before if before[name] != after[name]}


TINY = list(identities())
ATTACKS = {name for name in TINY if name.startswith("relearn_")}
STUDENTS = {name for name in TINY if name.startswith("undo_")} | {"unlearn_and_distill"}


def attacks(*models):
  return {f"relearn_{model}" for model in models}


ROUTING = "routing_arithmetic:tiny"


ABLATED = {
  "routed",
  "routed_control",
  "sgtm",
  *(f"{kind}_distillation_alpha_{a}" for kind in ("routed", "sgtm") for a in (0.5, 1)),
}


DISTILLED = {
  "models__routed_distillation__sweep__noise__alpha": (0.5, 1.0),
  "models__sgtm_distillation__sweep__noise__alpha": (0.5, 1.0),
  "models__routed_undo__sweep__noise__alpha": (0.3,),
}


def routed(**changes):
  return by_name(ROUTING, **DISTILLED, **changes)
