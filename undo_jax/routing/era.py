"""Expand, route, ablate: which entries of a tree are new, and what is done to them.

An `Expansion` says which entries at the end of which axes are the new ones: those
that `expand` appended, or those that `reserve` set aside in a model as it is. What is
to be forgotten is routed to them; then `ablate` zeroes or `contract` removes them.

If everything that leads into *and* out of the new units is zero, and f(0) = 0, all
their gradients are exactly zero: no training brings them back. With one side zero it
does: the rules of an expansion have to name both.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.2.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
from typing import Any, NamedTuple, TypeAlias
import zlib

import jax
import jax.numpy as jnp

from undo_jax.routing.masks import make_table
from undo_jax.utils import trees
from undo_jax.utils.types import Params

# (path regex, axis, number of new entries); no path may match two of them.
GrowthRules: TypeAlias = Sequence[tuple[str, int, int]]
NORMAL = jax.nn.initializers.normal(0.02)


class Growth(NamedTuple):
  """`old` entries along an axis, followed by `new` ones."""

  axis: int
  old: int
  new: int


@dataclasses.dataclass(frozen=True)
class Expansion:
  """What is new: in parameters by path, in activations by the name of the node."""

  params: Mapping[str, Growth]  # Axes from the front: 0, 1, ...
  # Axes from the end: -1, -2, ...; the axes behind it share one mask.
  nodes: Mapping[str, Growth] = dataclasses.field(default_factory=dict)


class Masks(NamedTuple):
  """Routing to the new units: by activations, or by parameters and source."""

  tables: dict[str, jax.Array]  # node -> [3, ...units]: forget, retain, unrouted.
  params: dict[str, Params]  # "forget", "retain" -> masks like the parameters.


# ---- Making one.


def expand(
  params: Params,
  rules: GrowthRules,
  key: jax.Array,
  *,
  init: Callable[..., jax.Array] = NORMAL,
  zero: Sequence[str] = (),
  nodes: Mapping[str, Growth] | None = None,
) -> tuple[Params, Expansion]:
  """Append new entries to parameters; the old ones are kept bit for bit.

  Args:
    params: a tree of arrays.
    rules: (path regex, axis, number of new entries).
    key: PRNG key; every path draws from its own fold of it.
    init: (key, shape, dtype) -> array, draws the new entries.
    zero: path regexes of parameters whose new entries are zero: biases, and what
      leads out of the new units if the model's outputs are to stay as they are.
    nodes: see `Expansion`.

  Returns:
    (the grown parameters, the record of what is new in them).

  Raises:
    ValueError: if a rule matches nothing or adds less than 1, two rules match one
      path, an axis does not exist, or `zero` names nothing that grows.
  """
  growths = {
    path: Growth(axis, shape[axis], new)
    for path, shape, axis, new in _matches(params, rules)
  }
  zeros = [(pattern, True) for pattern in zero]
  is_zero = trees.match(dict.fromkeys(growths, 0), zeros, default=False)

  def grow(path, leaf):
    if path not in growths:
      return leaf
    axis, _, new = growths[path]
    shape = (*leaf.shape[:axis], new, *leaf.shape[axis + 1 :])
    subkey = jax.random.fold_in(key, zlib.crc32(path.encode()))
    draw = jax.nn.initializers.zeros if is_zero[path] else init
    return jnp.concatenate([leaf, draw(subkey, shape, leaf.dtype)], axis=axis)

  grown = trees.map_with_path(grow, params)
  return grown, Expansion(growths, dict(nodes or {}))


def reserve(
  params: Params, rules: GrowthRules, *, nodes: Mapping[str, Growth] | None = None
) -> Expansion:
  """Declare the last entries of axes the new ones, and changes no parameter.

  Args:
    params: a tree of arrays or ShapeDtypeStructs.
    rules: (path regex, axis, number of entries to set aside).
    nodes: see `Expansion`.

  Raises:
    ValueError: as `expand` does, and if nothing would be left of an axis.
  """
  growths = {}
  for path, shape, axis, new in _matches(params, rules):
    if new >= shape[axis]:
      raise ValueError(
        f"{path} has {shape[axis]} entries on axis {axis}: {new} cannot be set aside"
      )
    growths[path] = Growth(axis, shape[axis] - new, new)
  return Expansion(growths, dict(nodes or {}))


def _matches(params, rules):
  """Return (path, shape, axis, number) of every leaf that a rule matches."""
  for pattern, *_ in rules:
    trees.match(params, [(pattern, True)], default=False)  # Raises if it has none.
  matches = []

  def look(path, leaf):
    mine = [rule for rule in rules if re.fullmatch(rule[0], path)]
    if not mine:
      return
    if len(mine) > 1:
      raise ValueError(
        f"{path} would be expanded twice, by the rules {[rule[0] for rule in mine]}"
      )
    ((_, axis, new),) = mine
    shape = jnp.shape(leaf)
    if not 0 <= axis < len(shape):
      raise ValueError(f"{path} has shape {shape}: no axis {axis}")
    if new < 1:
      raise ValueError(f"{path} must get at least 1 new entry, got {new}")
    matches.append((path, shape, axis, new))

  trees.map_with_path(look, params)
  if not matches:
    raise ValueError("an expansion needs at least one rule")
  return matches


# ---- Using one.


def check(params: Params, expansion: Expansion) -> None:
  """Raise ValueError unless the parameters have the expansion's sizes."""
  shapes = {}
  trees.map_with_path(
    lambda path, leaf: shapes.__setitem__(path, jnp.shape(leaf)), params
  )
  for path, (axis, old, new) in expansion.params.items():
    if path not in shapes:
      raise ValueError(
        f"the expansion speaks of {path}, which the parameters lack; they are "
        f"{', '.join(shapes)}"
      )
    size = shapes[path][axis] if axis < len(shapes[path]) else None
    if size == old + new:
      continue
    reason = "was it expanded twice, or by another expansion?"
    if size == old:
      reason = "it was never expanded, or is contracted already"
    raise ValueError(
      f"{path} must have {old} + {new} entries on axis {axis}, got the shape "
      f"{shapes[path]}: {reason}"
    )


def new_entries(params: Params, expansion: Expansion) -> Any:
  """Return a tree like `params` of bool, broadcastable to them: True where new.

  Raises:
    ValueError: if the parameters do not have the expansion's sizes.
  """
  check(params, expansion)

  def build(path, leaf):
    shape = [1] * jnp.ndim(leaf)
    if path not in expansion.params:
      return jnp.zeros(shape, bool)
    axis, old, new = expansion.params[path]
    shape[axis] = old + new
    return (jnp.arange(old + new) >= old).reshape(shape)

  return trees.map_with_path(build, params)


def ablate(params: Params, expansion: Expansion) -> Params:
  """Return the parameters with zeros for the new entries.

  Differentiable: the new entries get a gradient of exactly zero, the others that of
  the ablated model.

  Raises:
    ValueError: if the parameters do not have the expansion's sizes.
  """
  is_new = new_entries(params, expansion)
  return jax.tree.map(lambda x, new: jnp.where(new, 0, x), params, is_new)


# The name in a loss: the coherence term is the retain loss of `ablated_view(params)`.
ablated_view = ablate


def contract(params: Params, expansion: Expansion) -> Params:
  """Return the parameters without the new entries: the inverse of `expand`.

  Raises:
    ValueError: if the parameters do not have the expansion's sizes.
  """
  check(params, expansion)

  def cut(path, leaf):
    if path not in expansion.params:
      return leaf
    axis, old, _ = expansion.params[path]
    return jax.lax.slice_in_dim(leaf, 0, old, axis=axis)

  return trees.map_with_path(cut, params)


def is_ablated(params: Params, expansion: Expansion) -> jax.Array:
  """Return whether all new entries are exactly zero, as a bool scalar.

  Raises:
    ValueError: if the parameters do not have the expansion's sizes.
  """
  is_new = new_entries(params, expansion)
  used = jax.tree.map(lambda x, new: jnp.any(new & (x != 0)), params, is_new)
  return ~jnp.any(jnp.stack(jax.tree.leaves(used)))


def masks_for(
  expansion: Expansion,
  params: Params,
  *,
  new_target: float | jax.Array = 1.0,
  old_target: float | jax.Array = 0.0,
  new_off: float | jax.Array = 1.0,
  old_off: float | jax.Array = 1.0,
) -> Masks:
  """Return the masks that route forget data to the new units.

  Use the tables or the masks on parameters, not both. In a table, "old" are the old
  units of the node; in masks on parameters, everything else, also parameters that
  did not grow (embeddings, norms).

  Args:
    expansion: what is new.
    params: the expanded parameters or their ShapeDtypeStructs.
    new_target: mask of the new units for forget data.
    old_target: mask of the old ones for forget data; 0 or below, -0.75 in the paper.
    new_off: mask of the new units for retain data.
    old_off: mask of the old ones for retain data.

  Returns:
    Masks(tables [3, ...units] for each node of the expansion with the rows forget,
    retain and unrouted; masks on parameters for the sources "forget" and "retain").

  Raises:
    ValueError: if the parameters do not have the expansion's sizes.
  """

  def row(growth, old_value, new_value):
    _, old, new = growth
    values = jnp.where(jnp.arange(old + new) < old, old_value, new_value)
    return values.reshape(old + new, *(1,) * (-growth.axis - 1))

  tables = {
    name: make_table(row(growth, old_target, new_target), row(growth, old_off, new_off))
    for name, growth in expansion.nodes.items()
  }
  is_new = new_entries(params, expansion)

  def fill(old_value, new_value):
    return jax.tree.map(
      lambda new: jnp.where(new, jnp.float32(new_value), jnp.float32(old_value)), is_new
    )

  sources = {"forget": fill(old_target, new_target), "retain": fill(old_off, new_off)}
  return Masks(tables, sources)
