"""Where activations lie on a mesh, stated inside of programs that know no mesh.

From the shardings of parameters and batches alone the compiler may decide to hold a
whole batch on every device; a few statements inside the model keep it from that.
They mean something inside of `on(mesh, fn)` and nothing elsewhere.
"""

from collections.abc import Callable
import contextvars
import functools
import math
from typing import Any, TypeAlias

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

Axes: TypeAlias = str | tuple[str, ...] | None

ROWS = ("data", "fsdp")  # The mesh axes over which the rows of a batch are spread.
VOCABULARY = ("fsdp", "tensor")  # Those over which a loss's logits are.
_PLATFORM = contextvars.ContextVar("platform", default="")


def on(mesh: Mesh, fn: Callable[..., Any]) -> Callable[..., Any]:
  """Return `fn`, inside of which `constrain` speaks of the axes of `mesh`."""

  @functools.wraps(fn)
  def placed(*args, **kwargs):
    token = _PLATFORM.set(mesh.devices.flat[0].platform)
    try:
      with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return fn(*args, **kwargs)
    finally:
      _PLATFORM.reset(token)

  return placed


def platform() -> str:
  """Return what a program is compiled for: "tpu" on a mesh of TPUs, here or not."""
  return _PLATFORM.get() or jax.default_backend()


def constrain(x: jax.Array, *axes: Axes) -> jax.Array:
  """Return `x`, laid out over the mesh as stated; its gradient likewise.

  Args:
    x: an array.
    axes: for each of its axes the mesh axes it is spread over; those that do not
      divide it, and those that the mesh lacks, are left out.
  """
  if is_alone():
    return x
  return jax.lax.with_sharding_constraint(x, spec(x.shape, *axes))


def spec(shape: tuple[int, ...], *axes: Axes) -> P:
  """Return the part of the stated axes that divides a shape, inside of `on`."""
  mesh = jax.sharding.get_abstract_mesh()
  pairs = zip(shape, axes, strict=True)
  return P(*(_fitting(size, names, mesh) for size, names in pairs))


def _fitting(size: int, names: Axes, mesh) -> tuple[str, ...] | None:
  names = (names,) if isinstance(names, str) else names or ()
  axes, shards = [], 1
  for name in names:
    width = mesh.shape.get(name, 1)
    if width > 1 and size % (shards * width) == 0:
      axes.append(name)
      shards *= width
  return tuple(axes) or None


def num_shards(names: tuple[str, ...]) -> int:
  """Return how many parts an axis spread over these mesh axes is in, inside of `on`."""
  mesh = jax.sharding.get_abstract_mesh()
  return math.prod(mesh.shape.get(name, 1) for name in names)


def gather(kernel: jax.Array, axes: tuple[Axes, ...]) -> jax.Array:
  """Return a matrix whole along `fsdp`, its gradient in parts again.

  Without it the compiler may multiply by the parts in turn, each time reading and
  writing the whole sum.

  Args:
    kernel: stored over `axes`.
    axes: the mesh axes of each of its axes.
  """
  return kernel if is_alone() else _gather(kernel, axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gather(kernel, axes):
  return constrain(kernel, *(None if axis == "fsdp" else axis for axis in axes))


_gather.defvjp(
  lambda kernel, axes: (_gather(kernel, axes), None),
  lambda axes, _, gradient: (constrain(gradient, *axes),),
)


def is_alone() -> bool:
  """Whether a program runs on one device, as far as is known."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.empty or mesh.size == 1
