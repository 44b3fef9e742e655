"""Distance regularization: train on retain data, and move far from the start."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.objectives.method import Method
from undo_jax.objectives.terms import weighted
from undo_jax.utils.option_types import NotNegative
from undo_jax.utils.types import Objective, Params, SumCount


def root_mean_square(params: Params, start: Params) -> SumCount:
  """Compute sqrt(mean_i (theta[i] - start[i])^2 + 1e-8) over all parameters.

  Its gradient has the same length wherever the difference is large; that of the mean
  square would grow with the distance, without a bound. Parameters are rounded to the
  dtype of `start` first, so that the difference is 0 where training begins.

  Returns:
    SumCount with count 1.
  """

  def square(x, y):
    difference = x.astype(y.dtype).astype(jnp.float32) - y.astype(jnp.float32)
    return jnp.sum(difference * difference)

  total = sum(jax.tree.leaves(jax.tree.map(square, params, start)))
  size = sum(leaf.size for leaf in jax.tree.leaves(params))
  return SumCount(jnp.sqrt(total / size + 1e-8), jnp.float32(1))


def make(
  apply: Callable, *, retain_weight: NotNegative, distance_weight: NotNegative = 1.0
) -> Objective:
  """Return L = retain_weight * CE(retain) - distance_weight * RMS(theta - start).

  It reads no forget data; the start is frozen["reference"].

  Reference: Siddiqui et al., From Dormant to Deleted, arXiv 2505.22310.
  """

  def objective(params, frozen, batch, key):
    del key
    retain = batch["retain"]
    logits = apply(params, retain["inputs"]).logits
    kept = cross_entropy(logits, retain["targets"], retain["mask"])
    start = jax.lax.stop_gradient(frozen["reference"])
    moved = root_mean_square(params, start)
    loss = weighted((-distance_weight, moved), (retain_weight, kept))
    return loss, {"retain_cross_entropy": kept, "distance": moved}

  return objective


METHOD = Method(
  make=make,
  trains=("retain",),
  frozen=("reference",),
  is_unlearning=True,
  label="distance regularization",
  color="#6c6f7d",
  marker="H",
)
