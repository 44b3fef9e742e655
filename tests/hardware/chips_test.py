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
  found = chips.peak([types.SimpleNamespace(device_kind=kind)] * 4)
  assert found == (None if tera_flops is None else 4e12 * tera_flops)


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=chips.CHIPS)
def test_both_tables_have_the_same_peak(chip):
  assert chips.peak([types.SimpleNamespace(device_kind=chip.kind)]) == (
    chip.flops_per_second
  )
