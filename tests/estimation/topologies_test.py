"""Slices that are not here: what is known of them, and names that are none."""

import importlib.util

from jax.experimental import topologies as library
import pytest

from tests.distributed import slices
from undo_jax.distributed.sharding import make_mesh
from undo_jax.estimation import topologies
from undo_jax.hardware.chips import TARGETS
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize("name", ["v9:4x4", "cuda:8", ""])
def test_an_unknown_chip_is_named(name):
  with pytest.raises(ConfigError, match=f"--topology: expected v5e, .* '{name}'"):
    topologies.get(name)


@pytest.mark.parametrize("name", ["h100:", "h100:0x8", "a100:8y"])
def test_a_wrong_number_of_gpus_is_named(name):
  with pytest.raises(ConfigError, match="expected GPUs such as h100:8 .*hosts x GPUs"):
    topologies.get(name)


HAS_COMPILER = importlib.util.find_spec("libtpu") is not None


def described(name):
  """Return the chips of a slice as the TPU compiler knows them."""
  return list(library.get_topology_desc(platform="tpu", topology_name=name).devices)


@pytest.mark.skipif(not HAS_COMPILER, reason="the TPU compiler is not installed")
def test_every_slice_that_the_compiler_knows_gets_a_mesh():
  """And is what tests/distributed/slices.py makes up, which gets all meshes."""
  names = [(name, shape) for name, shapes in slices.SHAPES.items() for shape in shapes]
  for generation, shape in names:
    devices = described(f"{generation}:{shape}")
    expected = slices.chips(generation, shape)
    assert {device.device_kind for device in devices} == {slices.KINDS[generation]}
    places = {tuple(device.coords) for device in devices}
    assert places == {chip.coords for chip in expected} and len(places) == len(devices)
    for sizes in ({}, {"fsdp": 2, "tensor": 2}, {"fsdp": -1, "data": 1}):
      meshes = [make_mesh(**sizes, devices=each) for each in (devices, expected)]
      coords = [[tuple(x.coords) for x in mesh.devices.flat] for mesh in meshes]
      assert coords[0] == coords[1]
    if generation in TARGETS:
      assert len(topologies.get(f"{generation}:{shape}")[0]) == len(devices)


@pytest.mark.skipif(not HAS_COMPILER, reason="the TPU compiler is not installed")
@pytest.mark.parametrize("name", ["v5p:3x3x3", "v5e:3x5", "v6e:4", "v6e:0x2", "v5e:"])
def test_a_slice_that_cannot_be_compiled_for_is_one_clear_line(name):
  with pytest.raises(ConfigError, match=f"--topology: expected .*'{name}'") as error:
    topologies.get(name)
  assert "\n" not in str(error.value)


@pytest.mark.skipif(HAS_COMPILER, reason="the TPU compiler is here")
def test_without_the_compiler_the_mend_is_named():
  with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[tpu-compile\]'"):
    topologies.get("v5e:4x4")
