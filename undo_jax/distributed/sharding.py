"""Meshes and shardings: who holds which part of a tree."""

import functools
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError

# replica: members of a population; data: rows of a batch; fsdp: rows of a batch
# and parts of parameters; tensor: heads, MLP units, vocabulary.
AXES = ("replica", "data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))


def make_mesh(
  *, replica: int = 1, data: int = -1, fsdp: int = 1, tensor: int = 1, devices=None
) -> Mesh:
  """Build the mesh over all devices; one axis may be -1, the rest of them.

  Raises:
    ConfigError: if the sizes do not multiply to the number of devices, or these are of
      several slices of TPUs.
  """
  devices = jax.devices() if devices is None else devices
  sizes = {"replica": replica, "data": data, "fsdp": fsdp, "tensor": tensor}
  free = [name for name, size in sizes.items() if size == -1]
  fixed = int(np.prod([size for size in sizes.values() if size != -1]))
  positive = all(size > 0 or size == -1 for size in sizes.values())
  fits = positive and len(free) <= 1 and len(devices) % fixed == 0
  if fits and free:
    sizes[free[0]] = len(devices) // fixed
  if not fits or int(np.prod(list(sizes.values()))) != len(devices):
    raise ConfigError(
      f"the mesh {sizes} must multiply to the {len(devices)} devices here; give "
      "at most one axis -1 to take the rest"
    )
  # Auto: the compiler places the activations between our annotations.
  types, shape = (AxisType.Auto,) * len(AXES), tuple(sizes.values())
  try:
    return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
  except NotImplementedError:  # An axis is no product of whole axes of the slice.
    arranged = mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
    return Mesh(arranged, AXES, axis_types=types)
  except ValueError as error:  # Devices of several slices.
    raise ConfigError(f"the mesh {sizes} cannot be made: {error}") from None


def tree_shardings(tree: object, rules: trees.Rules, mesh: Mesh) -> Any:
  """Return the NamedSharding of every leaf by ordered (path regex, axes) rules.

  A tree with the parameters inside (optimizer state, say) is served by the same
  rules: they are matched on any suffix of the path. Scalars are replicated.

  Raises:
    ConfigError: if an axis of a leaf does not divide by its mesh axes.
    ValueError: if a rule matches nothing, or a leaf no rule.
  """
  suffix_rules = [(rf"(.*/)?(?:{pattern})", spec) for pattern, spec in rules]
  no_rule = object()
  specs = trees.match(tree, suffix_rules, default=no_rule)

  def build(path, leaf, spec):
    if not leaf.shape:
      return NamedSharding(mesh, P())
    if spec is no_rule:
      raise ValueError(f"no sharding rule matches {path!r}; add a rule for it")
    for size, name in zip(leaf.shape, spec, strict=False):
      if name is not None and size % mesh.shape[name]:
        raise ConfigError(
          f"{path} has shape {leaf.shape}: {size} does not divide over the "
          f"{mesh.shape[name]} devices of mesh axis {name!r}; change mesh.{name} "
          "or the model's size"
        )
    return NamedSharding(mesh, P(*spec))

  return trees.map_with_path(build, tree, specs)


def batch_sharding(mesh: Mesh, *, leading: int = 0) -> NamedSharding:
  """Return the sharding of batches: rows over data and fsdp.

  Args:
    mesh: the mesh.
    leading: axes before the rows (steps of a scan), never sharded.
  """
  return NamedSharding(mesh, P(*(None,) * leading, *BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  """Return the sharding of values that every device holds whole."""
  return NamedSharding(mesh, P())


@functools.cache
def batch_shards(mesh: Mesh) -> tuple[tuple[int, ...], int]:
  """Return which parts of a batch lie on this process's devices.

  The devices divide a batch into data x fsdp runs of rows; parts are such runs, or
  several together where a process has them side by side. Where the devices of a run
  are of several processes (mesh axes replica and tensor), each of these has it.

  Returns:
    (numbers of the parts, ascending; how many there are in all), for the arguments
    `shards` and `num_shards` of pipeline.mixture.
  """
  runs = mesh.shape["data"] * mesh.shape["fsdp"]
  indices = batch_sharding(mesh).addressable_devices_indices_map((runs,))
  own = sorted({index[0].start or 0 for index in indices.values() if index})
  side_by_side = own == list(range(own[0], own[0] + len(own)))
  if side_by_side and own[0] % len(own) == 0 and runs % len(own) == 0:
    return (own[0] // len(own),), runs // len(own)
  return tuple(own), runs


def put_batch(batch: object, mesh: Mesh, *, leading: int = 0) -> Any:
  """Place this process's rows of a batch on its devices.

  Args:
    batch: arrays whose rows are those of the process's parts, see `batch_shards`.
    mesh: the mesh.
    leading: axes before the rows.

  Returns:
    The whole batch, of which each device holds its run of rows.

  Raises:
    ConfigError: if the rows do not divide over the mesh axes data and fsdp.
  """
  sharding = batch_sharding(mesh, leading=leading)
  shards, num_shards = batch_shards(mesh)
  runs = mesh.shape["data"] * mesh.shape["fsdp"]

  def put(x):
    rows = x.shape[leading] * num_shards // len(shards)
    if rows % runs:
      raise ConfigError(
        f"a batch of {rows} rows does not divide over data x fsdp = {runs}"
        " devices; change the batch size or the mesh"
      )
    size = rows // num_shards  # Rows of a part.

    def run(index):
      part, offset = divmod(index[leading].start or 0, size)
      start = shards.index(part) * size + offset
      return x[(*index[:leading], slice(start, start + rows // runs))]

    shape = (*x.shape[:leading], rows, *x.shape[leading + 1 :])
    return jax.make_array_from_callback(shape, sharding, run)

  return jax.tree.map(put, batch)


def put_whole(tree: object, where: NamedSharding) -> Any:
  """Place arrays that every process has whole; each device takes its part."""

  def put(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, where, lambda index: x[index])

  return jax.tree.map(put, tree)
