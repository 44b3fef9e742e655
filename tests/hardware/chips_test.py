"""Peaks by the kinds that JAX tells."""

import types

import pytest

from undo_jax.hardware import chips


@pytest.mark.parametrize(
  "kind, tera_flops",
  [
    ("TPU v4", 275),
    ("TPU v5 lite", 197),
    ("TPU v5p", 459),
    ("TPU v6 lite", 918),
    ("NVIDIA A100-SXM4-80GB", 312),
    ("NVIDIA H100 PCIe", 756),
    ("NVIDIA H100 80GB HBM3", 989),
    ("NVIDIA L40S", 362),
    ("NVIDIA L4", 121),
    ("cpu", None),
  ],
)
def test_the_peak_is_that_of_all_devices(kind, tera_flops):
  peak = chips.peak([types.SimpleNamespace(device_kind=kind)] * 4)
  assert peak == (None if tera_flops is None else 4e12 * tera_flops)


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=chips.CHIPS)
def test_every_kind_is_its_own_chips(chip):
  assert chips.of(types.SimpleNamespace(device_kind=chip.kind)) is chip
  if isinstance(chip, chips.Gpu):
    device = types.SimpleNamespace(device_kind=chip.description)
    assert chips.of(device) is chip


def test_a_program_has_no_more_than_the_memory_there_is():
  for chip in chips.TARGETS.values():
    if isinstance(chip, chips.Gpu):
      assert chip.memory_bytes == 0.75 * chip.whole_memory_bytes  # JAX's default.
