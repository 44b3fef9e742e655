"""UNDO's noise: interpolation of parameters toward random initialization."""

from collections.abc import Callable, Sequence
import zlib

import jax
from jax.core import Tracer
import jax.numpy as jnp
import numpy as np

from undo_jax.utils import trees
from undo_jax.utils.types import Params

Noise = Callable[[jax.Array, jax.Array], jax.Array]
# (path regex, layers, alpha); () are all layers.
AlphaRules = Sequence[tuple[str, tuple[int, ...], float]]


def xavier_uniform(key: jax.Array, leaf: jax.Array) -> jax.Array:
  """Draw U(-a, a), a = sqrt(6 / (fan_in + fan_out)), of the shape of `leaf`.

  The fans are the last two axes; leading axes (stacked layers) are independent
  matrices.

  Raises:
    ValueError: if `leaf` has fewer than two axes.
  """
  if leaf.ndim < 2:
    raise ValueError(
      f"Xavier noise needs a matrix, got shape {leaf.shape}; give this parameter"
      " the rule `zero`"
    )
  bound = (6.0 / (leaf.shape[-2] + leaf.shape[-1])) ** 0.5
  return jax.random.uniform(key, leaf.shape, leaf.dtype, -bound, bound)


def zero(key: jax.Array, leaf: jax.Array) -> jax.Array:
  """Return zeros: the parameter only shrinks, to 0 at alpha = 1."""
  del key
  return jnp.zeros_like(leaf)


def one(key: jax.Array, leaf: jax.Array) -> jax.Array:
  """Mark scales whose fresh value is one: (1 - alpha) * theta + alpha, whatever beta.

  Beta scales what is random; a norm without offset is initialized to the identity.
  """
  raise AssertionError("a marker, never called")


def untouched(key: jax.Array, leaf: jax.Array) -> jax.Array:
  """Mark parameters that keep their value at every alpha (frozen ones)."""
  raise AssertionError("a marker, never called")


# For norms that store their scale as its offset from one: zero is the fresh value.
# Other families: models.decoder.noise_rules.
XAVIER = ((r"(.*/)?scale", zero), (r".*", xavier_uniform))


def alphas(
  params: Params, alpha: float | jax.Array | Params, rules: AlphaRules
) -> Params:
  """Return the noise strength of every entry: that of the first rule that names it.

  Args:
    params: tree of arrays or ShapeDtypeStructs.
    alpha: for what no rule names; may be traced, or a tree as in `toward_init`.
    rules: (path regex, layers, alpha). For parameters under layers/, `layers` are the
      indices of the layers that the rule applies to, or empty for all of them; for any
      other parameter it is empty.

  Returns:
    A tree like `params` of float32 arrays that broadcast to them, for `toward_init`.

  Raises:
    ValueError: if a rule names no parameter or no layer.
  """

  def full(leaf):
    return jnp.full((1,) * len(leaf.shape), alpha, jnp.float32)

  by_entry = jax.tree.structure(alpha) == jax.tree.structure(params)
  values = alpha if by_entry else jax.tree.map(full, params)
  for pattern, layers, value in reversed(rules):
    axis, index = (0, tuple(layers)) if layers else (None, None)
    masks = trees.mask_from_rules(params, [(pattern, axis, index, 1.0)], default=0.0)
    values = jax.tree.map(
      lambda m, old, new=value: jnp.where(m > 0, new, old), masks, values
    )
  return values


def toward_init(
  params: Params,
  key: jax.Array,
  *,
  alpha: float | jax.Array | Params,
  beta: float | jax.Array,
  rules: trees.Rules = XAVIER,
  trainable: tuple = (),
) -> Params:
  """Interpolate every parameter toward random initialization.

  theta' = (1 - alpha) * theta + alpha * beta * N

  alpha = 0 returns the parameters as they are; alpha = beta = 1 is a Xavier
  initialization that keeps nothing of them.

  Args:
    params: tree of float arrays.
    key: PRNG key; every path draws from its own fold of it, so that the noise of
      a parameter does not depend on what else is in the tree.
    alpha: noise strength in [0, 1]; may be traced (a population over alphas). Or a
      tree like `params` of arrays that broadcast to them, so that every entry has its
      own strength.
    beta: scale of the noise in [0, 1]; 0 is pure shrinking.
    rules: (path regex, noise) with noise one of `xavier_uniform`, `zero`, `one`,
      `untouched` or any function (key, leaf) -> array like the leaf.
    trainable: rules of trees.mask_from_rules for the entries that are trained
      afterwards; the others keep their value. Empty: all are.

  Returns:
    A tree like `params`, with its dtypes.

  Raises:
    ValueError: if alpha or beta lies outside [0, 1], or a rule matches nothing.

  Reference: UNDO, arXiv 2506.06278, section 5 (perturbation of the weights).
  """
  by_entry = jax.tree.structure(alpha) == jax.tree.structure(params)
  every = alpha if by_entry else jax.tree.map(lambda _: alpha, params)
  strengths = jax.tree.leaves(alpha) if by_entry else [alpha]
  for name, value in (*(("alpha", a) for a in strengths), ("beta", beta)):
    if not isinstance(value, Tracer) and not _is_unit(value):
      raise ValueError(f"{name} must lie in [0, 1], got {value}")

  def noised(path, leaf, noise, alpha):
    if noise is untouched:
      return leaf
    if noise is one:
      return ((1.0 - alpha) * leaf + alpha).astype(leaf.dtype)
    drawn = noise(jax.random.fold_in(key, zlib.crc32(path.encode())), leaf)
    return ((1.0 - alpha) * leaf + alpha * beta * drawn).astype(leaf.dtype)

  moved = trees.map_with_path(noised, params, trees.match(params, rules), every)
  if not trainable:
    return moved
  masks = trees.mask_from_rules(params, trainable, default=0.0)
  return jax.tree.map(
    lambda m, new, old: jnp.where(m > 0, new, old), masks, moved, params
  )


def along_directions(
  params: Params,
  fresh: Params,
  *,
  alpha: Params,
  low: Params,
  share: float,
  is_largest: bool,
) -> Params:
  """Interpolate matrices toward fresh ones in some of their singular directions.

  theta' = theta + M (fresh - theta),  M = low * I + (alpha - low) * P

  P projects onto the left singular vectors of theta for the given share of its largest
  (or smallest) singular values. For a matrix with more rows than columns it projects
  onto the right ones, and M acts from the right. With share = 1 all are chosen, and it
  is `toward_init`'s theta' = (1 - alpha) * theta + alpha * fresh. With fresh = 0 the
  chosen singular values are multiplied by 1 - alpha, the others by 1 - low.

  Each matrix is decomposed as a whole, in float32, on every device.

  Args:
    params: theta. The last two axes are those of a matrix; under layers/ there is one
      more axis. A parameter with a single axis has no directions: there M is low +
      share * (alpha - low).
    fresh: a tree like it: `toward_init` of it with alpha = 1.
    alpha: for the chosen directions; a tree like `params` of arrays that broadcast to
      it and have one value per matrix, as `alphas` returns it.
    low: likewise, for the other directions.
    share: of the directions of each matrix, in [0, 1]; rounded to the nearest number.
    is_largest: whether the largest are chosen.

  Returns:
    A tree like `params`, with its dtypes.
  """

  def moved(path, leaf, new, alpha, low):
    step = new.astype(jnp.float32) - leaf
    axes = leaf.ndim - path.startswith("layers/")
    if axes < 2:
      return (leaf + (low + share * (alpha - low)) * step).astype(leaf.dtype)
    is_tall = leaf.shape[-2] > leaf.shape[-1]
    left = jnp.swapaxes(leaf, -1, -2) if is_tall else leaf
    vectors, _, _ = jnp.linalg.svd(left.astype(jnp.float32), full_matrices=False)
    count = round(share * vectors.shape[-1])
    first = 0 if is_largest else vectors.shape[-1] - count
    chosen = vectors[..., first : first + count]
    projection = jnp.einsum("...ik,...jk->...ij", chosen, chosen)
    along = step @ projection if is_tall else projection @ step
    return (leaf + low * step + (alpha - low) * along).astype(leaf.dtype)

  return trees.map_with_path(moved, params, fresh, alpha, low)


def add_normal(
  params: Params, key: jax.Array, *, std: float, trainable: tuple = ()
) -> Params:
  """Add normal noise of one standard deviation to every parameter.

  theta' = theta + std * N(0, 1)

  Args:
    params: tree of float arrays.
    key: PRNG key; every path draws from its own fold of it, as in `toward_init`, but
      never the same values.
    std: >= 0.
    trainable: as in `toward_init`.

  Reference: Siddiqui et al., From Dormant to Deleted, arXiv 2505.22310 (weight
  distortion, std 0.02).
  """
  key = jax.random.fold_in(key, zlib.crc32(b"normal"))

  def added(path, leaf, mask):
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    noise = std * jax.random.normal(own, leaf.shape, jnp.float32)
    return jnp.where(mask > 0, leaf + noise.astype(leaf.dtype), leaf)

  masks = jax.tree.map(lambda _: 1.0, params)
  if trainable:
    masks = trees.mask_from_rules(params, trainable, default=0.0)
  return trees.map_with_path(added, params, masks)


def _is_unit(value) -> bool:
  return bool(np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)))
