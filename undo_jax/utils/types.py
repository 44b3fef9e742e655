"""Shared types, and the legend of the dimension letters used across undo_jax.

Dimension legend (an array `logits_BxLxV` has shape [B, L, V]):

  A  microbatches (gradient accumulation)
  B  batch rows
  C  choices of a question
  L  length in tokens
  V  vocabulary
  D  width of the residual stream
  H  query heads
  G  key/value heads
  K  width of one head
  F  width of the MLP's hidden layer
  N  decoder layers
  P  positions chosen among L
  Q  questions
  T  tokens generated
  R  replicas of a population (learning rates, alphas, seeds)
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from undo_jax.utils.errors import ConfigError as ConfigError
from undo_jax.utils.json_types import JsonObject as JsonObject

Options: TypeAlias = Mapping[str, Any]  # Of a method, an adversary or a rule, by name.
Params: TypeAlias = Any  # A nested dict of arrays.
Frozen: TypeAlias = Any  # A pytree the step reads but never differentiates.
Batch: TypeAlias = Mapping[
  str, Any
]  # "inputs", "targets", "mask"; or such batches by name.
Metrics: TypeAlias = dict[str, "SumCount"]


class SumCount(NamedTuple):
  """A mean that has not been divided yet: sum (float32) and count (float32).

  Pairs add up over devices and microbatches; the division by the global count
  happens once, in `mean`. An objective of several terms (say forget and retain)
  holds one entry a term, shape [terms]; its value is the sum of the terms' means.
  """

  sum: jax.Array
  count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]

  def mean(self) -> jax.Array:
    """Return sum_k sum[k] / max(count[k], 1) as a float32 scalar."""
    return jnp.sum(self.sum / jnp.maximum(self.count, 1.0))


Objective: TypeAlias = Callable[
  [Params, Frozen, Batch, jax.Array], tuple[SumCount, Metrics]
]

# Evaluation problems: arrays with a leading axis P, or such trees by name.
Problems: TypeAlias = Any


class Rows(Protocol):
  """Random access to the rows of a split."""

  def __len__(self) -> int:
    """Return how many there are."""
    ...

  def __getitem__(self, index: int, /) -> Any:
    """Return one."""
    ...
