"""Estimates of programs whose answer is known, from the TPU compiler if it is here."""

import importlib.util

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import pytest

from tests.estimation.made_up import GIB, V5E, made
from undo_jax.estimation import topologies
from undo_jax.estimation.estimate import estimate
from undo_jax.hardware import flops

needs_compiler = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="the TPU compiler is not installed: pip install 'undo-jax[tpu-compile]'",
)


def test_seconds_share_and_memory():
  actual = made()
  assert actual.total_bytes == 14 * GIB and actual.fits
  assert actual.seconds == pytest.approx(1.25)
  assert actual.share_of_peak == pytest.approx(1 / 1.25)
  kernels = made(counted=flops.Counted(int(16 * 197e12), int(8 * 197e12)))
  assert kernels.seconds == pytest.approx(1.75)
  assert not made(temporary_bytes=12 * GIB).fits
  assert not made(refusal="no").fits


def compiled(fn, *args, **options):
  return estimate("known", jax.jit(fn, **options), args, V5E, 4)


@pytest.fixture(scope="module")
def over():
  """Return a function from axes to their sharding over four chips."""
  devices, chip = topologies.get("v5e:2x2")
  assert chip is V5E and len(devices) == 4
  mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,), devices=devices)
  return lambda *axes: NamedSharding(mesh, P(*axes))


def square(sharding, size=4096):
  return jax.ShapeDtypeStruct((size, size), jnp.bfloat16, sharding=sharding)


FLOPS = 2 * 4096**3


@needs_compiler
def test_a_large_product_takes_its_flops_over_the_peak(over):
  actual = compiled(lambda a, b: a @ b, square(over()), square(over("x")))
  assert actual.counted.flops == FLOPS
  # The compiler may split it over the chips or not; then each does it whole.
  whole = FLOPS / V5E.flops_per_second
  seconds = actual.totals.cycles / V5E.cycles_per_second
  assert min(abs(seconds / whole - 1), abs(seconds / (whole / 4) - 1)) < 0.25


@needs_compiler
def test_a_scan_of_products_takes_as_many_times_as_long(over):
  def turns(count):
    def fn(a, b):
      return jax.lax.scan(lambda c, _: (c @ b, None), a, None, length=count)[0]

    return compiled(fn, square(over("x")), square(over()), out_shardings=over("x"))

  three, twelve = turns(3), turns(12)
  assert (three.counted.flops, twelve.counted.flops) == (3 * FLOPS, 12 * FLOPS)
  assert twelve.totals.cycles / three.totals.cycles == pytest.approx(4, rel=0.1)
  assert 0.5 < twelve.share_of_peak < 1


@needs_compiler
def test_all_gathers_in_a_loop_count_and_weigh_what_they_do(over):
  def fn(a, b):
    return jax.lax.scan(lambda c, _: (c @ b, None), a, None, length=7)[0]

  actual = compiled(fn, square(over("x")), square(over("x")), out_shardings=over("x"))
  assert actual.totals.counts["all-gather"] == 7
  assert actual.totals.bytes["all-gather"] == 7 * 4096**2 * 2


@needs_compiler
def test_donation_and_a_stack_of_results_show_in_the_memory(over):
  x = jax.ShapeDtypeStruct((8192, 8192), jnp.float32, sharding=over())
  size = 8192**2 * 4
  added = compiled(lambda x: x + 1, x, donate_argnums=0)
  assert (added.argument_bytes, added.output_bytes) == (size, 0)
  assert added.temporary_bytes <= size / 100

  def stacked(x):
    return jax.lax.scan(lambda c, _: (c @ x, c @ x), x, None, length=4)[1].sum()

  actual = compiled(stacked, x)
  assert 4 * size <= actual.temporary_bytes <= 6 * size


@needs_compiler
def test_what_does_not_fit_is_said_and_not_raised(over):
  x = jax.ShapeDtypeStruct((8192, 8192), jnp.float32, sharding=over())

  def stacked(x):
    return jax.lax.scan(lambda c, _: (c @ x, c @ x), x, None, length=80)[1].sum()

  actual = compiled(stacked, x)
  assert not actual.fits and "exceeds available HBM" in actual.refusal
