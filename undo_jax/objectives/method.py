"""The record of an objective, in which its file ends."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Literal

import jax
import optax

from undo_jax.models.config import ModelConfig
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Objective, Options, Params

# Paths of parameters, as regexes, each with the layers that are trained; () are all.
Pairs = tuple[tuple[str, tuple[int, ...]], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Join:
  """How gradients that are kept apart by source become one."""

  sources: tuple[str, ...]
  transform: optax.GradientTransformation  # Of {source: gradients}.
  # `carried(state, params)` returns what the objective reads of the frozen tree: of the
  # state of an optimizer that the transformation is a part of, before the update.
  carried: Callable[[Any, Params], dict[str, Params]]
  # Sharding rules of what its state holds beside trees like the parameters.
  state_rules: tuple[tuple[str, tuple], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """How an objective is made, what it reads, and which passes an update costs.

  `trains` and `reads` name the parts of a batch that go through the trained model
  (forward and backward) and through a frozen one (forward only); "batch" is a batch
  without parts. Compute accounting reads them. They hold for the default options;
  `needs` tells them for others.
  """

  make: Callable[..., Objective]  # (apply, **options) -> objective.
  trains: tuple[str, ...]
  reads: tuple[str, ...] = ()
  frozen: tuple[str, ...] = ()  # Keys of the frozen tree that it reads.
  # It also reads frozen["progress"]: the share in [0, 1) of the updates that are done.
  reads_progress: bool = False
  # Those of `frozen` that are no models: drawn from a key.
  derived: Mapping[str, Callable[[jax.Array, ModelConfig], jax.Array]] = (
    dataclasses.field(default_factory=dict)
  )
  # Parts whose every hidden state is unembedded, in training.
  unembeds: tuple[str, ...] = ()
  # Fields that options change: `needs(**options)` returns their values.
  needs: Callable[..., dict[str, object]] | None = None
  # What is trained, of a method that says so itself: `trainable(**options)`.
  trainable: Callable[..., Pairs] | None = None
  # `check(model, options, is_random=...)` raises ConfigError where they do not fit a
  # model that training starts from, or random weights.
  check: Callable[..., None] | None = None
  # `kept(model, options)`, of a method that can read its frozen models' predictions
  # from the batch instead: returns how many tokens of each are kept, 0 for all, or
  # raises FieldError where options ask for more.
  kept: Callable[..., int] | None = None
  # Tokens that stand before what is read first.
  prompt: int = 0
  # Forgets in the outputs alone; its parts of a batch are labelled forget and retain.
  is_unlearning: bool = False
  # How a batch tells where its rows come from: not at all, by a source for each row, or
  # by parts of rows that are labelled forget, labelled retain, and not labelled. The
  # last two route gradients to reserved units: `make` takes `routing`.
  sources: Literal["none", "rows", "parts"] = "none"
  # `gradient_masks(params, routing=...)` returns {source: masks like the parameters} of
  # a method that takes its parameters by source: routing.transforms.route_sources
  # joins the gradients by them.
  gradient_masks: Callable[..., dict[str, Params]] | None = None
  # `joins(trainable, **options)` returns the Join of a method whose gradients by source
  # are no masked sum; `trainable` are the rules of trees.mask_from_rules.
  joins: Callable[..., Join] | None = None
  # How its models are shown.
  label: str = ""
  color: str = "#8a7f5c"
  marker: str = "X"


def check_layers(model: ModelConfig, options: Options, *, is_random: bool) -> None:
  """Raise FieldError unless the option `layers` holds some of the model's."""
  del is_random
  layers, size = options["layers"], model.num_layers
  if not layers or any(not 0 <= k < size for k in layers):
    raise FieldError("layers", f"layers in [0, {size})", layers)
