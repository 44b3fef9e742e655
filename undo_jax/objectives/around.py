"""Methods that wrap another one: its options, its passes, what it trains."""

from collections.abc import Callable, Sequence
from typing import Any

from undo_jax.models.config import ModelConfig
from undo_jax.objectives import grad_diff, npo, rmu
from undo_jax.objectives.method import Method, Pairs, check_layers
from undo_jax.utils.types import Objective, Options

METHODS: dict[str, Method] = {
  "grad_diff": grad_diff.METHOD,
  "npo": npo.METHOD,
  "rmu": rmu.METHOD,
}
# Options beside the two weights; the outer method has those of all it may be around.
OWN = {
  "grad_diff": ("retain_loss",),
  "npo": ("retain_loss", "beta"),
  "rmu": ("layers", "coefficient"),
}


def make(apply: Callable, around: str, **options: object) -> Objective:
  """Return the objective of the inner method, by those options that are its own."""
  own = {"retain_weight", "forget_weight", *OWN[around]}
  chosen = {name: value for name, value in options.items() if name in own}
  return METHODS[around].make(apply, **chosen)


def needs(around: str, options: Options) -> dict[str, Any]:
  """Return what the inner method trains, reads, and has in the frozen tree."""
  method = METHODS[around]
  fields = ("trains", "reads", "frozen", "derived")
  requirements: dict[str, Any] = {name: getattr(method, name) for name in fields}
  if method.needs is not None:
    requirements |= method.needs(**{k: options[k] for k in OWN[around] if k in options})
  return requirements


def trainable(*, around: str, layers: Sequence[int] = (), **options: object) -> Pairs:
  """Return what the inner method trains; (): everything."""
  del options
  train = METHODS[around].trainable
  return () if train is None else train(layers=layers)


def check(model: ModelConfig, options: Options) -> None:
  """Raise FieldError unless the inner method has its layers."""
  if METHODS[options["around"]].check is check_layers:
    check_layers(model, options, is_random=False)
