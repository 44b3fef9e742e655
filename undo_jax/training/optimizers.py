"""The optimizer of every stage: clip, Adam, decoupled decay, schedule, freezing."""

from collections.abc import Iterable
import dataclasses
from typing import Any

import optax

from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """AdamW with a warm-up and a cosine, and what it may change."""

  learning_rate: float  # Peak, per update; > 0.
  num_steps: int  # Updates over which the cosine runs; >= 1.
  final_learning_rate: float | None = None  # Value at the end; None: constant.
  warmup_steps: int = 0  # Linear from 0: with warm-up, update 1 changes nothing.
  weight_decay: float = 0.0  # Decoupled, on all parameters; >= 0.
  clip_norm: float = 1.0  # Global gradient norm above which it is scaled down.
  trainable: tuple = ()  # Rules of trees.mask_from_rules; empty: everything.

  def __post_init__(self):
    if self.learning_rate < 0 or self.weight_decay < 0 or self.clip_norm <= 0:
      raise ConfigError(
        "an optimizer needs learning_rate >= 0, weight_decay >= 0 and "
        f"clip_norm > 0, got {self}"
      )
    if self.num_steps < 1 or not 0 <= self.warmup_steps <= self.num_steps:
      raise ConfigError(
        "an optimizer needs num_steps >= 1 and warmup_steps in [0, num_steps], "
        f"got num_steps={self.num_steps}, warmup_steps={self.warmup_steps}"
      )
    final = self.final_learning_rate
    if final is not None and not 0 <= final <= self.learning_rate:
      raise ConfigError(
        f"final_learning_rate must lie in [0, {self.learning_rate}], got {final}"
      )


def schedule(config: OptimizerConfig) -> optax.Schedule:
  """Returns the learning rate as a function of the updates done before.

  s < W: lr * s / W;  else  lr_end + (lr - lr_end) * (1 + cos(pi * p)) / 2 with
  p = (s - W) / (T - W), held at lr_end for s > T.

  Reference: UNDO, arXiv 2506.06278, appendix on hyper-parameters.
  """
  final = config.final_learning_rate
  if final is None or config.num_steps == config.warmup_steps:
    return optax.warmup_constant_schedule(
      0.0 if config.warmup_steps else config.learning_rate,
      config.learning_rate,
      config.warmup_steps,
    )
  return optax.warmup_cosine_decay_schedule(
    0.0 if config.warmup_steps else config.learning_rate,
    config.learning_rate,
    config.warmup_steps,
    config.num_steps,
    final,
  )


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Returns clip -> Adam(0.9, 0.999) -> decoupled decay -> schedule -> freezing."""
  return _chain(config, schedule(config))


def make_population_optimizer(config: OptimizerConfig) -> Any:
  """Returns an optimizer whose learning rate is a leaf of its state.

  A population holds one such leaf a replica, so that one program trains every
  learning rate. The rate is constant after a linear warm-up from 0.
  """

  def build(learning_rate):
    chain = _chain(config, learning_rate)
    if not config.warmup_steps:
      return chain
    warmup = optax.linear_schedule(0.0, 1.0, config.warmup_steps)
    return optax.chain(chain, optax.scale_by_schedule(warmup))

  return optax.inject_hyperparams(build)(learning_rate=config.learning_rate)


def _chain(config, learning_rate) -> optax.GradientTransformation:
  masks = [only_trainable(config.trainable)] if config.trainable else []
  return optax.chain(
    *masks,  # Before clipping too: frozen parameters must not use up the norm.
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(learning_rate, weight_decay=config.weight_decay),
    *masks,  # Last, so that decay does not move them.
  )


def trainable_rules(layers_by_path: Iterable) -> tuple:
  """Returns the rules of trees.mask_from_rules for what a config says is trained.

  Args:
    layers_by_path: pairs (path regex, layers): of parameters under layers/ the
      indices of the layers that are trained, empty for all of them; empty for
      any other parameter. The first pair that matches a path decides.
  """
  return tuple(
    (pattern, 0, tuple(layers), 1.0) if layers else (pattern, None, None, 1.0)
    for pattern, layers in layers_by_path
  )


def only_trainable(rules: tuple) -> optax.GradientTransformation:
  """Multiplies updates by the 0/1 masks of the rules; the default is frozen."""

  def update(updates, params):
    del params
    return trees.masked(updates, rules)

  return optax.stateless(update)
