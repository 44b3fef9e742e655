"""The registry of adversaries: a new one is one file and one line here."""

from undo_jax import objectives
from undo_jax.attacks import finetuning, lora
from undo_jax.attacks.attack import Attack, Members
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked
from undo_jax.utils.registry import Registry
from undo_jax.utils.types import Options

REGISTRY: Registry[Attack] = Registry(
  "adversary", Attack, {"finetuning": finetuning.ATTACK, "lora": lora.ATTACK}
)


def members_of(model: ModelConfig, adversary: str, options: Options) -> Members:
  """Returns what the members of an adversary's population train, by cross-entropy."""
  deferring = chunked.deferring(Decoder(model))
  objective = objectives.make("cross_entropy", deferring)
  return REGISTRY.get(adversary).members(model, options, objective)
