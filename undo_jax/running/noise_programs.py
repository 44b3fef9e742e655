"""Compiled programs that noise a model, and that choose which weights are trained."""

from collections.abc import Callable
import functools
import zlib

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from undo_jax import interpolation
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import UNIT_AXES, noise_rules
from undo_jax.plan.noise import NoiseShape
from undo_jax.plan.trained import TrainedMask
from undo_jax.running.programs import abstract_params, shardings_of
from undo_jax.training import saliency
from undo_jax.utils.types import Params

# Diagonal Fisher estimates by part: forget and retain.
Fisher = dict[str, Params]


@functools.cache
def noise(
  model: ModelConfig,
  mesh: Mesh,
  trainable: tuple = (),
  rules: interpolation.AlphaRules = (),
  shape: NoiseShape | None = None,
  std: float = 0.0,
) -> Callable[..., Params]:
  """Return `(params, key, alpha, beta, ...) -> params`, UNDO's interpolation.

  Weights that are not `trainable` (rules of trees.mask_from_rules) do not change; what
  `rules` name has alphas of its own, see interpolation.alphas. With a shape, alpha
  applies to the weights that it chooses: by `fisher`, if it reads one, with ties
  broken by `shape_key` or, without that, by the key. Afterwards normal noise of
  standard deviation `std` is added to all weights.
  """
  shardings = shardings_of(abstract_params(model, mesh))

  def toward_init(params, key, alpha, beta, fisher=None, shape_key=None):
    interpolate = functools.partial(
      interpolation.toward_init,
      params,
      key,
      beta=beta,
      rules=noise_rules(model),
      trainable=trainable,
    )
    if shape is not None and shape.is_singular:
      moved = interpolation.along_directions(
        params,
        interpolate(alpha=1.0),
        alpha=interpolation.alphas(params, alpha, rules),
        low=interpolation.alphas(params, shape.low, rules),
        share=shape.share,
        is_largest=shape.by == "largest_singular",
      )
    else:
      if shape is not None:
        shape_key = key if shape_key is None else shape_key
        alpha = _shaped(shape, params, shape_key, alpha, fisher)
      alpha = interpolation.alphas(params, alpha, rules) if rules else alpha
      moved = interpolate(alpha=alpha)
    if not std:
      return moved
    return interpolation.add_normal(moved, key, std=std, trainable=trainable)

  return jax.jit(toward_init, out_shardings=shardings)


@functools.cache
def mask(model: ModelConfig, mesh: Mesh, trained: TrainedMask) -> Callable[..., Params]:
  """Return `(key, fisher, params) -> bool tree`, which weights are trained, compiled.

  It is the share with the highest scores; ties, and all weights if there is no Fisher
  estimate, are chosen at random. Attribution reads mean gradients and the parameters
  at which they were taken.
  """
  abstract = abstract_params(model, mesh)

  def choose(key, fisher, params):
    scores = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), abstract)
    if trained.by == "forget":
      scores = fisher["forget"]
    if trained.by == "ratio":
      scores = saliency.ratio(fisher["forget"], fisher["retain"])
    if trained.curvature is not None:  # By attribution.
      scores = saliency.attribution(params, **fisher, curvature=trained.curvature)
    return saliency.highest(scores, abstract, trained.share, key)

  return jax.jit(choose, out_shardings=shardings_of(abstract))


def _shaped(shape: NoiseShape, params, key, alpha, fisher: Fisher | None) -> Params:
  """Return the alpha of every weight, in arrays that broadcast to the parameters."""
  axes = UNIT_AXES if shape.granularity == "unit" else ((".*", ()),)
  if shape.by == "magnitude":
    sizes = jax.tree.map(lambda leaf: jnp.abs(leaf.astype(jnp.float32)), params)
    sizes = saliency.by_unit(sizes, axes)
    kept = saliency.highest(sizes, params, 1.0 - shape.share, key)
    return jax.tree.map(lambda k: jnp.where(k, shape.low, alpha), kept)
  if fisher is None:  # Equal scores choose at random.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)
    fisher = {"forget": zeros, "retain": zeros}
  forget, retain = (
    saliency.by_unit(fisher[part], axes) for part in ("forget", "retain")
  )
  if shape.by == "dampening":
    damped = saliency.damped(
      forget, retain, selection=shape.selection, dampening=shape.dampening
    )
    return jax.tree.map(lambda a: alpha * a, damped)
  key = jax.random.fold_in(key, zlib.crc32(b"saliency"))
  scores = saliency.ratio(forget, retain)
  chosen = saliency.highest(scores, params, shape.share, key)
  return jax.tree.map(lambda c: jnp.where(c, alpha, shape.low), chosen)
