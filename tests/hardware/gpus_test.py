"""GPUs that are not here: as many as are named, and what is compiled for them."""

import importlib.util

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import pytest

from undo_jax.estimation import topologies
from undo_jax.estimation.estimate import estimate
from undo_jax.hardware import chips, gpus


@pytest.mark.skipif(
  importlib.util.find_spec("jax_cuda12_plugin") is None,
  reason="the GPU compiler is not installed: pip install 'undo-jax[gpu]'",
)
def test_a_product_for_gpus_gathers_what_it_lacks():
  devices, chip = topologies.get("h100:2x8")
  assert len(devices) == 16 and chip.name == "h100"
  mesh = jax.make_mesh((16,), ("x",), axis_types=(AxisType.Auto,), devices=devices)
  rows, whole = NamedSharding(mesh, P("x")), NamedSharding(mesh, P())
  x = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16, sharding=rows)
  fn = jax.jit(lambda a, b: a @ b, out_shardings=whole)
  estimated = estimate("known", fn, (x, x), chip, 16)
  assert estimated.counted.flops == 2 * 4096**3
  assert estimated.argument_bytes == 2 * 4096**2 * 2 / 16
  gathered = estimated.totals.bytes["all-gather"]
  assert 4096**2 * 2 <= gathered <= 2 * 4096**2 * 2


@pytest.mark.parametrize("shape", ["", "0", "x8", "8y", "2x", "0x8", "2x2x2"])
def test_what_is_no_number_of_gpus_or_of_hosts_and_gpus_is_an_error(shape):
  with pytest.raises(ValueError, match="is not GPUs or hosts x GPUs"):
    gpus.topology(chips.TARGETS["h100"], shape)
