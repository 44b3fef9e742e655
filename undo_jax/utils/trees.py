"""Path rules over parameter trees: the one matcher.

Ordered `(path regex, value)` rules decide sharding, noise, what is trained and
which gradients are routed. Paths join the keys with "/"; a rule holds where its
regex matches the whole path; the first that holds wins.
"""

from collections.abc import Callable, Sequence
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Rules = Sequence[tuple[str, Any]]
_REQUIRED = object()


def map_with_path(fn: Callable[..., Any], tree: object, *rest: object) -> Any:
  """Map `fn(path, leaf, *rest)` over a tree, where path is "a/b/c"."""

  def call(keys, *leaves):
    return fn(jax.tree_util.keystr(keys, simple=True, separator="/"), *leaves)

  return jax.tree_util.tree_map_with_path(call, tree, *rest)


def paths(tree: object) -> list[str]:
  """Return the path of every leaf, in the tree's order."""
  names: list[str] = []
  map_with_path(lambda path, _: names.append(path), tree)
  return names


def match(tree: object, rules: Rules, *, default: object = _REQUIRED) -> Any:
  """Return a tree like `tree` whose leaves are the values of the matching rules.

  Args:
    tree: any pytree; only its paths matter.
    rules: ordered (path regex, value); the first full match wins.
    default: value where no rule matches. Without it every leaf needs a rule.

  Returns:
    A tree of the same structure. Values may be any object but None.

  Raises:
    ValueError: if a rule is no regex or matches no path, or a path no rule (without
      default).
  """
  names = paths(tree)
  for pattern, _ in rules:
    try:
      regex = re.compile(pattern)
    except re.error as error:
      raise ValueError(f"the rule {pattern!r} is no regex: {error}") from None
    if not any(regex.fullmatch(name) for name in names):
      raise ValueError(
        f"the rule {pattern!r} matches no parameter; the paths are: " + ", ".join(names)
      )

  def lookup(path, _):
    for pattern, value in rules:
      if re.fullmatch(pattern, path):
        return value
    if default is _REQUIRED:
      raise ValueError(f"no rule matches the parameter {path!r}; add a rule for it")
    return default

  return map_with_path(lookup, tree)


def mask_from_rules(
  params: object,
  rules: Sequence[tuple[str, int | None, Any, float]],
  *,
  default: float = 1.0,
) -> Any:
  """Build float32 masks that broadcast to the parameters.

  Args:
    params: a tree of arrays or ShapeDtypeStructs.
    rules: ordered (path regex, axis, index, value): `value` on `index` (an int,
      a sequence of ints or a slice) of `axis`, `default` elsewhere. With axis
      None the value fills the whole array. The first full match wins.
    default: value of everything no rule speaks of.

  Returns:
    A tree like `params` of float32 arrays, each of size 1 along every axis but
    the one its rule names.

  Raises:
    ValueError: if a rule has other parts, is no regex or matches no path, its axis or
      index does not exist, or it selects nothing.
  """
  for rule in rules:
    if len(rule) != 4:
      raise ValueError(f"a rule is (path regex, axis, index, value), got {rule}")
  settings = match(params, [(rule[0], rule[1:]) for rule in rules], default=())

  def build(path, leaf, setting):
    mask = jnp.full((1,) * len(leaf.shape), default, jnp.float32)
    if not setting:
      return mask
    axis, index, value = setting
    if axis is None:
      return jnp.full_like(mask, value)
    indices = _indices(path, leaf.shape, axis, index)
    shape = [1] * len(leaf.shape)
    shape[axis] = leaf.shape[axis]
    values = np.full(leaf.shape[axis], default, np.float32)
    values[indices] = value
    return jnp.asarray(values.reshape(shape))

  return map_with_path(build, params, settings)


def masked(tree: object, rules: Sequence[tuple[str, int | None, Any, float]]) -> Any:
  """Return the tree times the masks of the rules, zero where none speaks.

  Without rules it is the tree itself. Raises as `mask_from_rules`.
  """
  if not rules:
    return tree
  masks = mask_from_rules(tree, rules, default=0.0)
  return jax.tree.map(lambda x, m: x * m.astype(x.dtype), tree, masks)


def _indices(path, shape, axis, index):
  """Return the entries of the axis that `index` selects, as an int array."""
  if not 0 <= axis < len(shape):
    raise ValueError(f"{path} has shape {shape}: no axis {axis}")
  size = shape[axis]
  if isinstance(index, slice):
    index = np.arange(size)[index]
  indices = np.atleast_1d(index)
  is_int = np.issubdtype(indices.dtype, np.integer)
  if not indices.size or not is_int or indices.min() < 0 or indices.max() >= size:
    raise ValueError(
      f"indices of axis {axis} of {path} lie in [0, {size}), got {index}"
      + ("" if indices.size else ", which selects nothing")
    )
  return indices
