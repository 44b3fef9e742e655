"""Estimates as lines of text."""

import collections

from tests.estimation.made_up import GIB, V5E, made
from undo_jax.estimation import table
from undo_jax.hardware import chips, flops


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
  estimate = made(chip=chips.TARGETS["h100"])
  assert (estimate.seconds, estimate.share_of_peak) == (0, 0) and estimate.fits
  assert table.line(estimate).split()[5:] == ["yes", "3152", "-", "-", "-", "-", "-"]
