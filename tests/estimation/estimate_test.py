"""Estimates of programs whose answer is known, from the TPU compiler if it is here."""

import collections
import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import pytest

from undo_jax.estimation import compiled_text, table, topologies
from undo_jax.estimation.estimate import Estimate, estimate
from undo_jax.hardware import chips, flops
from undo_jax.utils.types import ConfigError

needs_compiler = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="the TPU compiler is not installed: pip install 'undo-jax[tpu-compile]'",
)
GIB = 2**30
V5E = chips.TARGETS["v5e"]


def made(**changes):
  found = compiled_text.Found(
    cycles=V5E.cycles_per_second,  # One second ...
    sent_bytes=V5E.link_bytes_per_second / 4,  # ... and a quarter.
    hidden_bytes=V5E.link_bytes_per_second * 3 / 4,
    counts=collections.Counter({"all-gather": 3}),
    bytes=collections.Counter({"all-gather": 2 * GIB}),
  )
  known = Estimate(
    name="distillation",
    chip=V5E,
    num_devices=16,
    counted=flops.Counted(int(16 * 197e12)),
    argument_bytes=2 * GIB,
    output_bytes=GIB,
    temporary_bytes=10 * GIB,
    code_bytes=GIB,
    aliased_bytes=3 * GIB // 2,
    found=found,
  )
  return dataclasses.replace(known, **changes)


def test_seconds_share_and_memory():
  found = made()
  assert found.total_bytes == 14 * GIB and found.fits
  assert found.seconds == pytest.approx(1.25)
  assert found.share_of_peak == pytest.approx(1 / 1.25)
  kernels = made(counted=flops.Counted(int(16 * 197e12), int(8 * 197e12)))
  assert kernels.seconds == pytest.approx(1.75)
  assert not made(temporary_bytes=12 * GIB).fits
  assert not made(refusal="no").fits


def test_the_table_says_it_in_lines():
  heading = table.heading(V5E, {"data": 1, "fsdp": 16}).splitlines()
  assert heading[0] == "v5e, 15.75 GiB a chip, mesh data 1 x fsdp 16"
  line = table.line(made())
  cells = "3.00 1.50 10.00 14.00 yes 3152 1.25 0.25 75 % 0 80 %"
  assert line.split() == ["distillation", *cells.split()]
  assert len(line) == len(heading[1])
  assert "  NO  " in table.line(made(temporary_bytes=20 * GIB))
  left_out = flops.Counted(int(3152e12), 0, collections.Counter("w"))
  assert table.line(made(counted=left_out)).split()[6] == "3152+"
  assert table.line(made(refusal="too large")).endswith("does not fit: too large")
  assert "distillation: all-gather 3 (2.00 GiB)" in table.collectives([made()])


def test_where_the_compiler_counts_no_cycles_the_times_are_dashes():
  found = made(chip=chips.TARGETS["h100"])
  assert (found.seconds, found.share_of_peak) == (0, 0) and found.fits
  assert table.line(found).split()[5:] == ["yes", "3152", "-", "-", "-", "-", "-"]


@pytest.mark.parametrize("name", ["v9:4x4", "cuda:8", ""])
def test_an_unknown_chip_is_named(name):
  with pytest.raises(ConfigError, match=f"--topology: expected v5e, .* '{name}'"):
    topologies.get(name)


@pytest.mark.parametrize("name", ["h100:", "h100:0x8", "a100:8y"])
def test_a_wrong_number_of_gpus_is_named(name):
  with pytest.raises(ConfigError, match="expected GPUs such as h100:8 .*hosts x GPUs"):
    topologies.get(name)


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is not None, reason="the TPU compiler is here"
)
def test_without_the_compiler_the_mend_is_named():
  with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[tpu-compile\]'"):
    topologies.get("v5e:4x4")


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
  found = estimate("known", fn, (x, x), chip, 16)
  assert found.counted.flops == 2 * 4096**3
  assert found.argument_bytes == 2 * 4096**2 * 2 / 16
  gathered = found.found.bytes["all-gather"]
  assert 4096**2 * 2 <= gathered <= 2 * 4096**2 * 2


def compiled(fn, *args, **options):
  return estimate("known", jax.jit(fn, **options), args, V5E, 4)


@pytest.fixture(scope="module")
def over():
  """Returns a function from axes to their sharding over four chips."""
  devices, chip = topologies.get("v5e:2x2")
  assert chip is V5E and len(devices) == 4
  mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,), devices=devices)
  return lambda *axes: NamedSharding(mesh, P(*axes))


def square(sharding, size=4096):
  return jax.ShapeDtypeStruct((size, size), jnp.bfloat16, sharding=sharding)


FLOPS = 2 * 4096**3


@needs_compiler
def test_a_large_product_takes_its_flops_over_the_peak(over):
  found = compiled(lambda a, b: a @ b, square(over()), square(over("x")))
  assert found.counted.flops == FLOPS
  # The compiler may split it over the chips or not; then each does it whole.
  whole = FLOPS / V5E.flops_per_second
  seconds = found.found.cycles / V5E.cycles_per_second
  assert min(abs(seconds / whole - 1), abs(seconds / (whole / 4) - 1)) < 0.25


@needs_compiler
def test_a_scan_of_products_takes_as_many_times_as_long(over):
  def turns(count):
    def fn(a, b):
      return jax.lax.scan(lambda c, _: (c @ b, None), a, None, length=count)[0]

    return compiled(fn, square(over("x")), square(over()), out_shardings=over("x"))

  three, twelve = turns(3), turns(12)
  assert (three.counted.flops, twelve.counted.flops) == (3 * FLOPS, 12 * FLOPS)
  assert twelve.found.cycles / three.found.cycles == pytest.approx(4, rel=0.1)
  assert 0.5 < twelve.share_of_peak < 1


@needs_compiler
def test_all_gathers_in_a_loop_count_and_weigh_what_they_do(over):
  def fn(a, b):
    return jax.lax.scan(lambda c, _: (c @ b, None), a, None, length=7)[0]

  found = compiled(fn, square(over("x")), square(over("x")), out_shardings=over("x"))
  assert found.found.counts["all-gather"] == 7
  assert found.found.bytes["all-gather"] == 7 * 4096**2 * 2


@needs_compiler
def test_donation_and_a_stack_of_results_show_in_the_memory(over):
  x = jax.ShapeDtypeStruct((8192, 8192), jnp.float32, sharding=over())
  size = 8192**2 * 4
  added = compiled(lambda x: x + 1, x, donate_argnums=0)
  assert (added.argument_bytes, added.output_bytes) == (size, 0)
  assert added.temporary_bytes <= size / 100

  def stacked(x):
    return jax.lax.scan(lambda c, _: (c @ x, c @ x), x, None, length=4)[1].sum()

  found = compiled(stacked, x)
  assert 4 * size <= found.temporary_bytes <= 6 * size


@needs_compiler
def test_what_does_not_fit_is_said_and_not_raised(over):
  x = jax.ShapeDtypeStruct((8192, 8192), jnp.float32, sharding=over())

  def stacked(x):
    return jax.lax.scan(lambda c, _: (c @ x, c @ x), x, None, length=80)[1].sum()

  found = compiled(stacked, x)
  assert not found.fits and "exceeds available HBM" in found.refusal
