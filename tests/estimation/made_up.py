"""An estimate that no compiler made, for tests of what is made of it."""

import collections
import dataclasses

from undo_jax.estimation import compiled_text
from undo_jax.estimation.estimate import Estimate
from undo_jax.hardware import chips, flops

GIB = 2**30
V5E = chips.TARGETS["v5e"]


def made(**changes):
  totals = compiled_text.Totals(
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
    totals=totals,
  )
  return dataclasses.replace(known, **changes)
