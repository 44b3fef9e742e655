"""The registries of adversaries and edits: a new one is one file and one line here."""

from collections.abc import Sequence

from undo_jax import objectives
from undo_jax.attacks import (
  difference_rank,
  direction_ablation,
  few_shot,
  finetuning,
  gcg,
  interpolation_to_base,
  logit_calibration,
  logit_lens,
  lora,
  probe,
  pruning,
  push,
  quantization,
  soft_prompt,
  weight_noise,
)
from undo_jax.attacks.attack import Attack, Members
from undo_jax.attacks.edit import Edit
from undo_jax.models import decoder
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked
from undo_jax.utils.registry import Registry
from undo_jax.utils.types import Options

# Attacks that train, and those that edit the weights.
REGISTRY: Registry[Attack] = Registry(
  "adversary",
  Attack,
  {
    "finetuning": finetuning.ATTACK,
    "lora": lora.ATTACK,
    "logit_calibration": logit_calibration.ATTACK,
    "soft_prompt": soft_prompt.ATTACK,
    "push": push.ATTACK,
    "probe": probe.ATTACK,
  },
)
EDITS: Registry[Edit] = Registry(
  "edit",
  Edit,
  {
    "pruning": pruning.EDIT,
    "quantization": quantization.EDIT,
    "interpolation_to_base": interpolation_to_base.EDIT,
    "difference_rank": difference_rank.EDIT,
    "weight_noise": weight_noise.EDIT,
    "direction_ablation": direction_ablation.EDIT,
    "few_shot": few_shot.EDIT,
    "gcg": gcg.EDIT,
    "logit_lens": logit_lens.EDIT,
  },
)


def members_of(model: ModelConfig, adversary: str, options: Options) -> Members:
  """Return what the members of an adversary's population train, by cross-entropy."""
  deferring = chunked.deferring(Decoder(model))
  objective = objectives.make("cross_entropy", deferring)
  return REGISTRY.get(adversary).members(model, options, objective)


def check_edit(
  model: ModelConfig, edit: str, options: Options, strengths: Sequence[float]
) -> None:
  """Raise ConfigError unless an edit, its options and its strengths fit a model."""
  record = EDITS.get(edit)
  parsed, shapes = record.parse(options), decoder.shapes(model)
  for strength in strengths:
    record.check(shapes, strength, parsed)
