"""What a model cost: updates, tokens and FLOPs, teacher passes included."""

import dataclasses

from undo_jax.hardware.flops import forward_flops
from undo_jax.models.config import ModelConfig
from undo_jax.objectives import Method


@dataclasses.dataclass(frozen=True)
class Compute:
  """Costs add up along the way from the base model; evaluation is not counted."""

  updates: int = 0  # Optimizer steps.
  tokens: int = 0  # Positions that went through a trained model.
  flops: int = 0  # Multiplications and additions of all passes.

  def __add__(self, other: "Compute") -> "Compute":
    """Add two costs, field by field."""
    mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
    return Compute(**{name: mine[name] + theirs[name] for name in mine})


def training(
  config: ModelConfig,
  method: Method,
  *,
  updates: int,
  batch_size: int,
  length: int,
  gradients: int = 1,
) -> Compute:
  """Return the cost of `updates` steps of an objective.

  A trained part of the batch costs three forward passes (forward, and twice that
  backward), a part that is only read by a frozen model one. Passes are counted
  whole; so RMU, which needs no layer above its last, is counted too high.

  Args:
    config: the model; a teacher has the same.
    method: says which parts of the batch are trained on and read.
    updates: optimizer steps.
    batch_size: rows of each part.
    length: L.
    gradients: that an update takes; sharpness-aware ones are two.
  """
  passes = 3 * len(method.trains) + len(method.reads)
  flops = passes * forward_flops(config, length)
  if method.reads and method.prompt:
    prompted = forward_flops(config, length + method.prompt)
    flops += prompted - forward_flops(config, length)
  # Hidden states that are read besides the last: the embedding and every layer's.
  lens = 3 * len(method.unembeds) * (config.num_layers + 1)
  flops += lens * 2 * length * config.vocab_size * config.width
  rows = updates * batch_size * gradients
  return Compute(
    updates=updates,
    tokens=rows * length * len(method.trains),
    flops=rows * flops,
  )
