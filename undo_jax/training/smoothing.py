"""Gradients of a smoother loss, so that unlearning ends in a flat region."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from undo_jax.training.gradients import GradientFunction, loss_and_gradients
from undo_jax.utils import records, trees
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Params

# Gradients that an update takes, by kind; of "random" as many as there are samples.
_PASSES = {"gradient_penalty": 2, "curvature": 4}


@records.record
class Smoothing:
  """Which smoother loss, and how far it looks.

  random: mean over samples of L(theta + radius * normal)
  gradient_penalty: L + weight * |grad L|
  curvature: L + weight * |grad L(theta + radius * v) - grad L(theta)|,
    v the direction of grad L

  The gradient of a norm of gradients is a product with the Hessian, taken as the
  difference of two gradients `radius` apart. So a gradient penalty of weight = radius
  is sharpness-aware minimization with that rho.
  """

  kind: Literal["random", "gradient_penalty", "curvature"] | None = None  # None: off.
  radius: float = 0.01  # > 0; of random the standard deviation.
  weight: float = 1.0  # Of the penalty; random has none.
  samples: int = 3  # Of random.

  def __post_init__(self):
    records.at_least(self, "samples", smallest=1)
    records.not_negative(self, "weight")
    if not self.radius > 0:
      raise FieldError("radius", "a number above 0", self.radius)

  @property
  def passes(self) -> int:
    """Gradients of one update."""
    return _PASSES.get(self.kind or "", self.samples)


def smoothed(smoothing: Smoothing, *, trainable: tuple = ()) -> GradientFunction:
  """Return `loss_and_gradients` of a smoother loss.

  All gradients of an update are those of the same batch under the same key. Loss and
  metrics are those at theta; of random, the means over the samples.

  Args:
    smoothing: see Smoothing; its kind is given.
    trainable: rules of trees.mask_from_rules as in OptimizerConfig; nothing else is
      moved. Empty: everything.

  Reference: Fan et al., Towards LLM Unlearning Resilient to Relearning Attacks,
  arXiv 2502.05374 (the three beside sharpness-aware minimization; they smooth the
  forget term, here it is the whole loss). The difference in place of the Hessian:
  Zhao et al., Penalizing Gradient Norm, arXiv 2202.03599, equation (9).
  """

  def gradients(objective, params, frozen, batch, key, *, num_microbatches=1):
    def at(params):
      return loss_and_gradients(
        objective, params, frozen, batch, key, num_microbatches=num_microbatches
      )

    def masked(direction):
      return trees.masked(direction, trainable)

    if smoothing.kind == "random":
      return _random(smoothing, at, masked, params, key)
    loss, plain, metrics = at(params)
    find = _penalty if smoothing.kind == "gradient_penalty" else _curvature
    return loss, find(smoothing, lambda p: at(p)[1], masked, params, plain), metrics

  return gradients


def _random(smoothing: Smoothing, at, masked, params: Params, key: jax.Array):
  """Return the means of loss, gradient and metrics at weights with noise."""

  def sample(index):
    noise = masked(optax.tree.random_like(jax.random.fold_in(key, index), params))
    return at(_moved(params, noise, smoothing.radius))

  def add(total, index):
    return jax.tree.map(jnp.add, total, sample(index)), None

  # Other random numbers than the objective's, which folds microbatches into the key.
  indices = 2**20 + jnp.arange(smoothing.samples)
  total, _ = jax.lax.scan(add, sample(indices[0]), indices[1:])
  return jax.tree.map(lambda x: x / smoothing.samples, total)


def _penalty(smoothing: Smoothing, gradient, masked, params, plain) -> Params:
  """Return g + weight * H g/|g|."""
  product = _hessian_product(gradient, params, plain, masked(plain), smoothing.radius)
  return _moved(plain, product, smoothing.weight)


def _curvature(smoothing: Smoothing, gradient, masked, params, plain) -> Params:
  """Return g + weight * (H(theta + r v) - H(theta)) u, u along the difference.

  The direction v is taken as constant.
  """
  radius = smoothing.radius
  away = _moved(params, _unit(masked(plain)), radius)
  there = gradient(away)
  difference = masked(jax.tree.map(jnp.subtract, there, plain))
  products = (
    _hessian_product(gradient, at, known, difference, radius)
    for at, known in ((away, there), (params, plain))
  )
  return _moved(plain, jax.tree.map(jnp.subtract, *products), smoothing.weight)


def _hessian_product(gradient, params, known, direction, radius) -> Params:
  """Return (gradient(params + r u) - known) / r, u the direction of unit length."""
  there = gradient(_moved(params, _unit(direction), radius))
  return jax.tree.map(lambda x, y: (x - y) / radius, there, known)


def _unit(direction: Params) -> Params:
  scale = 1.0 / (optax.tree.norm(direction) + 1e-12)
  return jax.tree.map(lambda x: scale * x, direction)


def _moved(params: Params, direction: Params, length: Any) -> Params:
  return jax.tree.map(lambda p, d: p + (length * d).astype(p.dtype), params, direction)
