"""LoRA: relearning that trains adapters over frozen weights; see models/lora.py."""

import functools

import jax

from undo_jax.attacks.attack import Attack, Members
from undo_jax.models import lora
from undo_jax.models.decoder import Decoder, partition_rules
from undo_jax.models.lora import LoraConfig
from undo_jax.utils import records
from undo_jax.utils.records import FieldError


def adapters(options) -> LoraConfig:
  """Return the adapters that options ask for: rank, alpha, targets."""
  return records.from_json(LoraConfig, dict(options), path="options")


def members(model, options, objective) -> Members:
  """Return members that are fresh adapters, the same for all."""
  config, rules = adapters(options), partition_rules(model)
  scale = config.scale
  return Members(
    start=functools.partial(lora.init, rank=config.rank, targets=config.targets),
    objective=lora.over_adapters(objective, scale=scale),
    weights=lambda pairs, frozen: lora.merge(frozen["base"], pairs, scale=scale),
    rules=lambda pairs: lora.partition_rules(pairs, rules),
    reads_base=True,
  )


def check(model, options) -> None:
  """Raise ConfigError unless the model has kernels that the options adapt."""
  config = adapters(options)
  draw = functools.partial(lora.init, rank=config.rank, targets=config.targets)
  init = Decoder(model).init
  try:
    jax.eval_shape(lambda key: draw(init(key), key), jax.random.key(0))
  except ValueError as error:
    raise FieldError("options", f"adapters that fit ({error})", dict(options)) from None


ATTACK = Attack(
  members=members,
  check=check,
  describe=lambda options: f"low-rank adapters (LoRA, rank {options['rank']})",
  label="LoRA",
  adapters=adapters,
)
