"""Optimizers with their schedules."""

from ml_collections import config_dict

from undo_jax.config.blocks import Config


def optimizer(
  *,
  num_steps: int,
  learning_rate: float,
  final_learning_rate: float | None = None,
  warmup_steps: int = 0,
  weight_decay: float = 0.0,
  clip_norm: float | None = 1.0,
  name: str = "adamw",
  decay_steps: int | None = None,
  decay: str = "linear",
  decay_on_recovery: bool = False,
) -> Config:
  """Return an optimizer with its schedule."""
  block = config_dict.create(
    # Or descent, lion, muon, nesterov, sgd; of undo_jax/training/optimizers.py, or
    # MODULE:NAME.
    name=name,
    learning_rate=learning_rate,  # Peak.
    num_steps=num_steps,  # Updates; with a stop rule, at most.
    final_learning_rate=config_dict.placeholder(float),  # At the end; None: constant.
    decay_steps=config_dict.placeholder(int),  # Of the decay; None: a cosine over all.
    decay=decay,  # Linear or 1-sqrt, where decay_steps are set.
    # The decay begins as soon as the stop rule is satisfied, and training ends with it.
    decay_on_recovery=decay_on_recovery,
    # Training ends at the mean of the weights after so many updates and every so many
    # more; None: at those of the last update.
    average_begin=config_dict.placeholder(int),
    average_every=1,
    # The end is so many times as far from the start, on the same line; below 0: on the
    # other side.
    displacement=1.0,
    warmup_steps=warmup_steps,  # Linear from 0; update 1 then is a no-op.
    weight_decay=weight_decay,  # Decoupled, on all parameters.
    clip_norm=config_dict.placeholder(
      float
    ),  # Global gradient norm; None: no clipping.
    # What is trained, and noised before: pairs (path regex, layers), where () are all
    # layers, as in (("layers/mlp/.*", (0, 1)), ("embedding", ())); empty: everything.
    trainable=(),
  )
  block.final_learning_rate, block.clip_norm = final_learning_rate, clip_norm
  block.decay_steps = decay_steps
  return block


def cosine(
  *,
  num_steps: int,
  learning_rate: float,
  warmup_steps: int = 20,
  weight_decay: float = 0.0,
) -> Config:
  """Return an optimizer with a warm-up and a cosine down to a tenth of the peak."""
  return optimizer(
    num_steps=num_steps,
    learning_rate=learning_rate,
    final_learning_rate=0.1 * learning_rate,
    warmup_steps=warmup_steps,
    weight_decay=weight_decay,
  )


def warmup_stable_decay(
  *,
  num_steps: int,
  learning_rate: float,
  decay_steps: int,
  decay: str = "linear",
  final_learning_rate: float = 0.0,
  warmup_steps: int = 20,
  weight_decay: float = 0.0,
  on_recovery: bool = False,
) -> Config:
  """Return an optimizer whose rate is constant and decays in the last updates only.

  Args:
    num_steps: updates, warm-up and decay among them.
    learning_rate: before the decay.
    decay_steps: updates of the decay.
    decay: linear, or 1-sqrt, which falls faster at first.
    final_learning_rate: at the end.
    warmup_steps: linear from 0.
    weight_decay: decoupled, on all parameters.
    on_recovery: whether the decay begins as soon as the entry's stop rule is
      satisfied, and training ends with the decay. It begins after num_steps -
      decay_steps updates at the latest.
  """
  return optimizer(
    num_steps=num_steps,
    learning_rate=learning_rate,
    final_learning_rate=final_learning_rate,
    warmup_steps=warmup_steps,
    weight_decay=weight_decay,
    decay_steps=decay_steps,
    decay=decay,
    decay_on_recovery=on_recovery,
  )
