"""Which weights hold a capability: scores of every weight, and the highest of them."""

from collections.abc import Callable
import math
import zlib

import jax
import jax.numpy as jnp

from undo_jax.training.gradients import loss_and_gradients
from undo_jax.utils import trees
from undo_jax.utils.types import Batch, Objective, Params


def add_gradients(
  objective: Objective,
  total: Params,
  params: Params,
  batch: Batch,
  *,
  share: float,
  power: int = 2,
) -> Params:
  """Add the gradient of a batch's mean loss, squared, to a diagonal Fisher estimate.

  total + share * g^power;  over n batches with share = 1/n: the mean of g^power

  Args:
    objective: reads no frozen tree and no key; see types.Objective.
    total: the estimate so far, float32; zeros at first.
    params: the model.
    batch: rows.
    share: of this batch.
    power: 1: the mean gradient instead.
  """
  key = jax.random.key(0)
  _, grads, _ = loss_and_gradients(objective, params, (), batch, key)
  return jax.tree.map(
    lambda sum, g: sum + share * g.astype(jnp.float32) ** power, total, grads
  )


def by_unit(fisher: Params, axes: trees.Rules) -> Params:
  """Sum an estimate over the inputs of each unit.

  Args:
    fisher: of every weight.
    axes: (path regex, axes that are summed), () where every weight is a unit.

  Returns:
    A tree like `fisher` whose summed axes have size 1.
  """
  return jax.tree.map(
    lambda leaf, summed: jnp.sum(leaf, summed, keepdims=True) if summed else leaf,
    fisher,
    trees.match(fisher, axes),
  )


def ratio(forget: Params, retain: Params) -> Params:
  """Return s = F_forget / (F_forget + F_retain) in [0, 1]; 0 where both are 0.

  It orders weights as F_forget / F_retain does, by which GRIN chooses what it noises.

  Reference: GRIN, arXiv 2508.06467.
  """

  def score(f, r):
    whole = f + r
    return jnp.where(whole > 0, f / jnp.where(whole > 0, whole, 1.0), 0.0)

  return jax.tree.map(score, forget, retain)


def damped(
  forget: Params, retain: Params, *, selection: float, dampening: float
) -> Params:
  """Return the alphas that make noise with beta = 0 selective synaptic dampening.

  alpha = 1 - min(d * F_retain / F_forget, 1)  where F_forget > c * F_retain, else 0,

  so that theta' = (1 - alpha) * theta = min(d * F_retain / F_forget, 1) * theta.

  Args:
    forget: F_forget, the diagonal Fisher estimate on what is to be forgotten.
    retain: F_retain, in the paper on all of the training data.
    selection: c, how much larger F_forget must be.
    dampening: d.

  Reference: Foster et al., arXiv 2308.07707, equation (4) and algorithm 1.
  """

  def alpha(f, r):
    chosen = f > selection * r
    kept = jnp.minimum(dampening * r / jnp.where(chosen, f, 1.0), 1.0)
    return jnp.where(chosen, 1.0 - kept, 0.0)

  return jax.tree.map(alpha, forget, retain)


def attribution(
  params: Params, forget: Params, retain: Params, *, curvature: float
) -> Params:
  """Return each weight's effect on forgetting, after retaining has reacted.

  s = |(theta - g_retain / curvature) * g_forget|

  To first order, removing a weight changes the forget loss by theta * g_forget; the
  retain loss, whose second derivative is taken to be `curvature` in all weights, then
  moves the weight, which changes it by -g_retain / curvature * g_forget.

  Args:
    params: theta, the model before unlearning.
    forget: g_forget, the mean gradient of the loss on what is to be forgotten.
    retain: g_retain, that on what is kept.
    curvature: > 0; as it tends to infinity s is |theta * g_forget|.

  Reference: Jia et al., WAGLE, arXiv 2410.17509; by size, as the authors' code ranks.
  """

  def score(w, f, r):
    return jnp.abs((w.astype(jnp.float32) - r / curvature) * f)

  return jax.tree.map(score, params, forget, retain)


def highest(scores: Params, params: Params, share: float, key: jax.Array) -> Params:
  """Choose the share of all weights whose scores are highest.

  Of n weights in all parameters m = round(share * n) are chosen: those above the m-th
  largest score, and at random as many of those equal to it as are missing. So with
  equal scores m weights are chosen at random.

  The m-th largest is found exactly, bit by bit from counts over all devices; no
  parameter is gathered or sorted. An entry has 32 random bits: of n equal scores about
  n / 2^32 more than m are chosen. If an entry stands for the several weights of a
  unit, enough units are chosen for at least m weights.

  Args:
    scores: of at least 0, float32, each leaf like that of `params` or of size 1 along
      some axes, where one score is that of several weights.
    params: arrays or ShapeDtypeStructs.
    share: in [0, 1].
    key: of what is random; every path draws from its own fold of it.

  Returns:
    A tree like `scores` of bool.

  Raises:
    ValueError: if a parameter has 2^32 weights or more in a layer.
  """
  total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  count = math.floor(share * total + 0.5)
  weights = jax.tree.map(_weights_of_entry, scores, params)
  bits = jax.tree.map(lambda s: jax.lax.bitcast_convert_type(s, jnp.uint32), scores)

  def draw(path, leaf):
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    return jax.random.bits(own, leaf.shape, jnp.uint32)

  random = trees.map_with_path(draw, scores)
  limit = _largest(
    lambda least: jax.tree.map(lambda b: b >= least, bits), weights, count
  )

  def with_ties(least):
    return jax.tree.map(
      lambda b, r: (b > limit) | ((b == limit) & (r >= least)), bits, random
    )

  chosen = with_ties(_largest(with_ties, weights, count))
  return chosen if count else jax.tree.map(jnp.zeros_like, chosen)


def _largest(
  chosen: Callable[[jax.Array], Params], weights: Params, count: int
) -> jax.Array:
  """Return the largest uint32 x at which chosen(x) holds at least `count` weights."""

  def set_bit(i, x):
    higher = x | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
    return jnp.where(_holds(chosen(higher), weights, count), higher, x)

  return jax.lax.fori_loop(0, 32, set_bit, jnp.uint32(0))


def _holds(chosen: Params, weights: Params, count: int) -> jax.Array:
  """Whether at least `count` weights are chosen, counted in two halves of 16 bits."""
  counts = [
    each * jnp.sum(leaf, axis=tuple(range(leaf.ndim > 2, leaf.ndim)), dtype=jnp.uint32)
    for leaf, each in zip(
      jax.tree.leaves(chosen), jax.tree.leaves(weights), strict=True
    )
  ]
  low = jnp.sum(jnp.stack([jnp.sum(n & 0xFFFF) for n in counts]))
  high = jnp.sum(jnp.stack([jnp.sum(n >> 16) for n in counts])) + (low >> 16)
  low &= 0xFFFF
  wanted = jnp.uint32(count >> 16), jnp.uint32(count & 0xFFFF)
  return (high > wanted[0]) | ((high == wanted[0]) & (low >= wanted[1]))


def _weights_of_entry(score, leaf) -> int:
  layer = leaf.shape[1:] if len(leaf.shape) > 2 else leaf.shape
  if math.prod(layer) >= 2**32:
    raise ValueError(
      f"a parameter has shape {leaf.shape}: 2^32 weights or more a layer"
    )
  return math.prod(leaf.shape) // math.prod(score.shape)
