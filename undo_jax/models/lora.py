"""Low-rank adapters: relearning that trains two thin matrices for each kernel.

An adapter tree has, under the path of every adapted kernel [N, in, out], the
matrices {"a": [N, in, r], "b": [N, r, out]}, float32. The model they stand for is

  W' = W + scale * a @ b,  scale = alpha / r

and the base W is only read: a population of adapters shares one copy of it.

Reference: Hu et al., LoRA, arXiv 2106.09685; the initialization is PEFT's.
"""

from collections.abc import Sequence
import re
from typing import Any
import zlib

import jax
import jax.numpy as jnp

from undo_jax.utils import records, trees
from undo_jax.utils.types import Objective, Params


@records.record
class LoraConfig:
  """Which kernels are adapted, with how many directions, and how strongly."""

  rank: int  # r, at least 1 and at most the smaller side of every kernel.
  alpha: float  # Above 0; the product a @ b is scaled by alpha / rank.
  targets: tuple[str, ...]  # Path regexes of the adapted kernels.

  def __post_init__(self):
    records.at_least(self, "rank", smallest=1)
    records.above(self, "alpha")

  @property
  def scale(self) -> float:
    """What the product of the two matrices is multiplied by."""
    return self.alpha / self.rank


def init(params: Params, key: jax.Array, *, rank: int, targets: Sequence[str]) -> Any:
  """Draw fresh adapters, which leave the model as it is.

  a ~ U(-1/sqrt(in), 1/sqrt(in)),  b = 0

  Args:
    params: the base's parameters, or their ShapeDtypeStructs; only shapes matter.
    key: PRNG key; every path draws from its own fold of it, so that the adapter
      of a kernel does not depend on which others are adapted.
    rank: r, in [1, min(in, out)] for every adapted kernel.
    targets: path regexes; a kernel [N, in, out] that one of them matches whole is
      adapted.

  Returns:
    The adapter tree: at the path of each adapted kernel {"a": [N, in, r] float32,
    "b": [N, r, out] float32}; nothing for the other parameters.

  Raises:
    ValueError: if there are no targets, one is no regex, matches nothing or
      something else than stacked matrices, or the rank does not fit a kernel.

  Reference: PEFT's default, kaiming_uniform_(a=sqrt(5)) on A and zeros on B.
  """
  adapters: dict[str, Any] = {}
  for path, (layers, fan_in, fan_out) in _chosen(params, rank, targets).items():
    node = adapters
    for name in path.split("/"):
      node = node.setdefault(name, {})
    subkey = jax.random.fold_in(key, zlib.crc32(path.encode()))
    bound = fan_in**-0.5
    node["a"] = jax.random.uniform(
      subkey, (layers, fan_in, rank), jnp.float32, -bound, bound
    )
    node["b"] = jnp.zeros((layers, rank, fan_out), jnp.float32)
  return adapters


def merge(params: Params, adapters: object, *, scale: float | jax.Array) -> Params:
  """Add the adapters to the parameters they adapt.

  W' = W + scale * a @ b,  in float32, then in the dtype of W

  Args:
    params: tree of arrays, adapted kernels [N, in, out].
    adapters: tree of pairs as `init` returns it.
    scale: alpha / r; may be traced.

  Returns:
    A tree like `params`, with its dtypes; what is not adapted is the same array.

  Raises:
    ValueError: if an adapter has no parameter at its path or does not fit it.

  Reference: arXiv 2106.09685, section 4.1.
  """
  adapted = pairs(adapters)
  missing = sorted(set(adapted) - set(trees.paths(params)))
  if missing:
    raise ValueError(
      "every adapter needs a parameter at its path, there is none at "
      + ", ".join(missing)
    )

  def add(path, leaf):
    if path not in adapted:
      return leaf
    a, b = adapted[path]
    if (*a.shape[:-1], b.shape[-1]) != leaf.shape or a.shape[-1] != b.shape[-2]:
      raise ValueError(
        f"{path} has shape {leaf.shape}: its adapter must be a [..., in, r] and "
        f"b [..., r, out], got a {a.shape} and b {b.shape}"
      )
    # Products in full float32 also where a device would round their inputs.
    update = jnp.matmul(
      a.astype(jnp.float32),
      b.astype(jnp.float32),
      precision=jax.lax.Precision.HIGHEST,
    )
    return (leaf.astype(jnp.float32) + scale * update).astype(leaf.dtype)

  return trees.map_with_path(add, params)


def over_adapters(objective: Objective, *, scale: float) -> Objective:
  """Return the objective as a function of the adapters, at a frozen base.

  L'(adapters; base) = L(merge(base, adapters))

  Args:
    objective: of the model's parameters; see types.Objective.
    scale: alpha / r.

  Returns:
    An objective whose params are the adapters. Its frozen tree is a dict: "base"
    holds the model's parameters, and what else is in it is the frozen tree of
    `objective`.
  """

  def adapted(adapters, frozen, batch, key):
    rest = {name: tree for name, tree in frozen.items() if name != "base"}
    params = merge(frozen["base"], adapters, scale=scale)
    return objective(params, rest, batch, key)

  return adapted


def partition_rules(adapters: object, rules: trees.Rules) -> trees.Rules:
  """Return the sharding rules of adapters from those of the parameters.

  a lies along the kernel's in axis and b along its out axis; the rank is whole.

  Args:
    adapters: the adapter tree, or its ShapeDtypeStructs.
    rules: (path regex, axes) of the model's parameters.

  Returns:
    Rules for sharding.tree_shardings, which serve the optimizer's state as well.

  Raises:
    ValueError: if no rule matches the path of an adapted kernel.
  """
  partitions = []
  for path, (a, _) in pairs(adapters).items():
    matching = [axes for pattern, axes in rules if re.fullmatch(pattern, path)]
    if not matching:
      raise ValueError(f"no sharding rule matches {path!r}; add a rule for it")
    axes = (*matching[0], *(None,) * (len(a.shape) - len(matching[0])))
    *leading, along_in, along_out = axes
    partitions.append((re.escape(f"{path}/a"), (*leading, along_in, None)))
    partitions.append((re.escape(f"{path}/b"), (*leading, None, along_out)))
  return partitions


def pairs(adapters: object) -> dict[str, tuple[Any, Any]]:
  """Return (a, b) by the path of the kernel they adapt.

  Args:
    adapters: a tree as `init` returns it, also with leading axes (a population).

  Raises:
    ValueError: if a path lacks a or b, or has something else.
  """
  leaves = dict(zip(trees.paths(adapters), jax.tree.leaves(adapters), strict=True))
  kernels = dict.fromkeys(path.rpartition("/")[0] for path in leaves)
  expected = {f"{path}/{name}" for path in kernels for name in ("a", "b")}
  if set(leaves) != expected:
    raise ValueError(
      "an adapter tree has a and b at the path of each kernel, got "
      + ", ".join(sorted(leaves))
    )
  return {path: (leaves[f"{path}/a"], leaves[f"{path}/b"]) for path in kernels}


def _chosen(params, rank, targets) -> dict[str, tuple[int, int, int]]:
  """Return the shapes of the kernels to adapt by path, all checked."""
  if isinstance(targets, str) or not targets:
    raise ValueError(f"targets must be at least one path regex, got {targets!r}")
  for pattern in targets:
    try:
      re.compile(pattern)
    except re.error as error:
      raise ValueError(f"the target {pattern!r} is no regex: {error}") from None
  chosen = trees.match(params, [(rule, True) for rule in targets], default=False)
  shapes = {
    path: leaf.shape
    for path, leaf, is_target in zip(
      trees.paths(params), jax.tree.leaves(params), jax.tree.leaves(chosen), strict=True
    )
    if is_target
  }
  vectors = [f"{path} {shape}" for path, shape in shapes.items() if len(shape) != 3]
  if vectors:
    raise ValueError(
      "targets must match stacked matrices [N, in, out], they also match "
      + ", ".join(vectors)
    )
  small = [f"{path} {shape}" for path, shape in shapes.items() if rank > min(shape[1:])]
  if rank < 1 or small:
    raise ValueError(
      f"rank must lie in [1, min(in, out)] of every adapted kernel, got {rank}"
      + (" for " + ", ".join(small) if small else "")
    )
  return shapes
