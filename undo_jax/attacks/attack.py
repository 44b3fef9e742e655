"""The record of an adversary, in which its file ends."""

from collections.abc import Callable
import dataclasses

import jax

from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Output
from undo_jax.models.lora import LoraConfig
from undo_jax.utils.trees import Rules
from undo_jax.utils.types import Frozen, Objective, Options, Params

# What an attacker is assumed to have.
WEIGHTS, FORGET_DATA = "the weights", "forget data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Members:
  """What each member of a population trains, and the model that follows from it."""

  start: Callable[[Params, jax.Array], Params]  # (attacked model, key) -> trained tree.
  objective: Objective  # Of the trained tree.
  weights: Callable[[Params, Frozen], Params]  # (trained tree, frozen) -> the model.
  rules: Callable[[Params], Rules]  # Trained tree -> its sharding rules.
  # The frozen tree is {"base": the attacked model}; else it is empty.
  reads_base: bool = False
  # The `apply` of what `weights` returns, by which it is scored; None: the decoder's.
  apply: Callable[..., Output] | None = None
  # (trained tree, frozen) -> the nearest one that the attacker may use, after each
  # update; None: any.
  project: Callable[[Params, Frozen], Params] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
  """An adversary that trains a population, a member for each learning rate."""

  # (model, options, the objective of its parameters) -> members.
  members: Callable[[ModelConfig, Options, Objective], Members]
  # Raises ConfigError where options do not fit a model, before any compute.
  check: Callable[[ModelConfig, Options], None]
  describe: Callable[[Options], str]  # What is trained, as a sentence's subject.
  label: str
  # The adapters of a member as PEFT knows them; None: it trains no such adapters.
  adapters: Callable[[Options], LoraConfig] | None = None
  assumes: tuple[str, ...] = (WEIGHTS, FORGET_DATA)  # What the attacker has.
  # Whether what is trained is weights of the model, of which a config may choose some.
  trains_weights: bool = True
  added_tokens: Callable[[Options], int] = lambda options: 0  # To each row.
  is_reading: bool = False  # A diagnostic, which no worst case is over.
