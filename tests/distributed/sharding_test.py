"""Tests of meshes and of who holds what."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import pytest

from tests.distributed import slices
from undo_jax import testing
from undo_jax.distributed import sharding
from undo_jax.models.decoder import partition_rules
from undo_jax.models.gemma2 import Gemma2
from undo_jax.training import population
from undo_jax.training import state as state_lib
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize(
  ("axes", "shape"),
  [
    ({}, (1, 8, 1, 1)),
    ({"fsdp": 8, "data": 1}, (1, 1, 8, 1)),
    ({"fsdp": 2, "tensor": 2}, (1, 2, 2, 2)),
    ({"replica": -1, "data": 2}, (4, 2, 1, 1)),
    ({"replica": 2, "data": 1, "fsdp": 2, "tensor": -1}, (2, 1, 2, 2)),
  ],
)
def test_the_mesh_has_four_axes_over_all_devices(axes, shape):
  mesh = sharding.make_mesh(**axes)
  assert mesh.axis_names == ("replica", "data", "fsdp", "tensor")
  assert mesh.devices.shape == shape
  assert set(mesh.devices.flat) == set(jax.devices())


@pytest.mark.parametrize(
  ("generation", "shape"),
  [(name, shape) for name, shapes in slices.SHAPES.items() for shape in shapes],
)
def test_every_slice_gets_every_mesh(generation, shape):
  """Also those whose axes are no products of whole axes of the slice."""
  chips = slices.chips(generation, shape)
  for sizes in slices.meshes(len(chips)):
    mesh = sharding.make_mesh(**sizes, devices=chips)
    assert dict(mesh.shape) == sizes
    assert sorted(chip.id for chip in mesh.devices.flat) == list(range(len(chips)))


def test_chips_that_share_parameters_are_neighbors():
  """Half of a row of an 8 x 8 torus is a line; 16 chips are two rows or columns."""
  for size, extents in ((4, {1, 4}), (8, {1, 8}), (16, {2, 8})):
    mesh = sharding.make_mesh(fsdp=size, devices=slices.chips("v6e", "8x8"))
    for group in mesh.devices.reshape(-1, size):
      coords = np.array([chip.coords for chip in group])
      x, y, _ = coords.max(0) - coords.min(0) + 1
      assert {x, y} == extents


def test_several_slices_are_one_clear_line():
  chips = [c for i in range(2) for c in slices.chips("v6e", "2x2", slice_index=i)]
  with pytest.raises(ConfigError, match="the mesh .* cannot be made: .*slice") as error:
    sharding.make_mesh(devices=chips)
  assert "\n" not in str(error.value)


def test_the_mesh_takes_the_devices_it_is_given():
  devices = jax.devices()[2:4]
  assert set(sharding.make_mesh(devices=devices).devices.flat) == set(devices)


@pytest.mark.parametrize(
  "axes",
  [
    {"data": 3},
    {"data": 4},
    {"data": 16},
    {"data": -1, "fsdp": 3},
    {"data": -1, "fsdp": 16},
    {"data": -1, "fsdp": -1},
    {"data": 0},
    {"data": -1, "tensor": 0},
    {"data": -2, "fsdp": -4},
  ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_an_error(axes):
  with pytest.raises(ConfigError, match="must multiply to the 8 devices"):
    sharding.make_mesh(**axes)


@pytest.fixture(scope="module")
def shapes():
  return jax.eval_shape(Gemma2(testing.config()).init, jax.random.key(0))


@pytest.fixture(scope="module")
def mesh():
  return sharding.make_mesh(data=2, fsdp=2, tensor=2)


def by_path(tree):
  return dict(zip(trees.paths(tree), jax.tree.leaves(tree), strict=True))


EXPECTED = {
  "embedding": (8, 8),  # [16, 16] over tensor x fsdp.
  "final_norm/scale": (16,),
  "layers/attention/key/kernel": (2, 8, 8),  # [2, 16, 2*8].
  "layers/attention/out/kernel": (2, 16, 8),  # [2, 4*8, 16].
  "layers/attention/query/kernel": (2, 8, 16),
  "layers/attention/value/kernel": (2, 8, 8),
  "layers/mlp/down/kernel": (2, 16, 8),  # [2, 32, 16].
  "layers/mlp/gate/kernel": (2, 8, 16),
  "layers/mlp/up/kernel": (2, 8, 16),
  **{
    f"layers/{side}_{part}_norm/scale": (2, 16)
    for side in ("pre", "post")
    for part in ("attention", "mlp")
  },
}


def test_every_device_holds_its_part_of_each_parameter(shapes, mesh):
  shardings = sharding.tree_shardings(shapes, partition_rules(testing.config()), mesh)
  parts = jax.tree.map(lambda s, where: where.shard_shape(s.shape), shapes, shardings)
  got = dict(
    zip(
      trees.paths(shapes),
      jax.tree.leaves(parts, is_leaf=lambda x: isinstance(x, tuple)),
      strict=True,
    )
  )
  assert got == EXPECTED


def test_tensor_and_fsdp_cut_the_axes_they_are_named_for(shapes, mesh):
  got = by_path(
    sharding.tree_shardings(shapes, partition_rules(testing.config()), mesh)
  )
  assert got["embedding"].spec == P("tensor", "fsdp")
  assert got["layers/mlp/up/kernel"].spec == P(None, "fsdp", "tensor")
  assert got["layers/mlp/down/kernel"].spec == P(None, "tensor", "fsdp")
  assert got["final_norm/scale"].is_fully_replicated


def test_optimizer_state_lies_as_its_parameters(shapes, mesh):
  state = jax.eval_shape(lambda p: state_lib.create(p, optax.adamw(1e-3)), shapes)
  got = by_path(sharding.tree_shardings(state, partition_rules(testing.config()), mesh))
  alone = by_path(
    sharding.tree_shardings(shapes, partition_rules(testing.config()), mesh)
  )
  for path, where in alone.items():
    copies = [name for name in got if name == path or name.endswith("/" + path)]
    assert len(copies) == 3  # The parameter and its two moments.
    assert {got[name] for name in copies} == {where}
  scalars = [name for name in got if name == "step" or name.endswith("count")]
  assert len(scalars) == 2
  assert all(got[name].spec == P() for name in scalars)


def test_a_population_is_spread_over_replicas_first(shapes, mesh):
  single = sharding.tree_shardings(shapes, partition_rules(testing.config()), mesh)
  got = by_path(population.shardings(single))
  assert got["embedding"].spec == P("replica", "tensor", "fsdp")
  assert got["layers/mlp/up/kernel"].spec == P("replica", None, "fsdp", "tensor")


@pytest.mark.parametrize(
  ("changes", "axes", "message"),
  [
    ({"vocab_size": 15}, {"tensor": 2}, "embedding.*15 does not.*2 devices.*'tensor'"),
    ({"width": 12}, {"fsdp": 8}, "12 does not divide over the 8 devices.*mesh.fsdp"),
    ({"mlp_width": 12}, {"tensor": 8}, "layers/mlp/.*12 does not divide.*mesh.tensor"),
  ],
)
def test_sizes_that_do_not_divide_are_errors(changes, axes, message):
  shapes = jax.eval_shape(Gemma2(testing.config(**changes)).init, jax.random.key(0))
  with pytest.raises(ConfigError, match=message):
    sharding.tree_shardings(
      shapes, partition_rules(testing.config()), sharding.make_mesh(**axes)
    )


def test_a_rule_that_matches_nothing_is_an_error(shapes, mesh):
  with pytest.raises(ValueError, match="matches no parameter"):
    sharding.tree_shardings(
      shapes, (*partition_rules(testing.config()), ("bias", ())), mesh
    )


def test_each_device_gets_its_rows_of_a_batch(mesh):
  batch = {"x": np.arange(8 * 3).reshape(8, 3), "mask": np.arange(8.0)}
  put = sharding.put_batch(batch, mesh)
  for name, array in put.items():
    np.testing.assert_array_equal(array, batch[name])
    for shard in array.addressable_shards:
      _, data, fsdp, _ = np.argwhere(mesh.devices == shard.device)[0]
      first = 2 * (2 * data + fsdp)  # Four parts of two rows, data outside fsdp.
      np.testing.assert_array_equal(shard.data, batch[name][first : first + 2])


def test_parts_that_do_not_lie_side_by_side_go_to_their_devices(mesh, monkeypatch):
  assert sharding.batch_shards(mesh) == ((0,), 1)  # All of them, so one.
  batch = np.arange(2 * 8 * 3).reshape(2, 8, 3)
  expected = sharding.put_batch(batch, mesh, leading=1)
  monkeypatch.setattr(sharding, "batch_shards", lambda mesh: ((0, 1, 2, 3), 4))
  put = sharding.put_batch(batch, mesh, leading=1)
  np.testing.assert_array_equal(put, batch)
  assert put.sharding == expected.sharding


def test_leading_axes_of_a_batch_are_not_cut(mesh):
  batch = np.arange(3 * 5 * 4).reshape(3, 5, 4)
  put = sharding.put_batch(batch, mesh, leading=2)
  np.testing.assert_array_equal(put, batch)
  assert {shard.data.shape for shard in put.addressable_shards} == {(3, 5, 1)}


def test_rows_that_do_not_divide_are_errors(mesh):
  message = "a batch of 6 rows does not divide over data x fsdp = 4"
  with pytest.raises(ConfigError, match=message):
    sharding.put_batch({"x": np.zeros((6, 4))}, mesh)
  with pytest.raises(ConfigError, match=message):
    sharding.put_batch({"x": np.zeros((4, 6))}, mesh, leading=1)


def test_replicated_values_are_whole_everywhere(mesh):
  x = jax.device_put(jnp.arange(4), sharding.replicated(mesh))
  assert len(x.addressable_shards) == 8
  for shard in x.addressable_shards:
    np.testing.assert_array_equal(shard.data, np.arange(4))
