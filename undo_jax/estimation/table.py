"""Estimates as lines of text."""

from collections.abc import Iterable

from undo_jax.estimation.estimate import Estimate
from undo_jax.hardware.chips import Target
from undo_jax.utils import tables

_COLUMNS = (
  ("arguments", 9),
  ("aliased", 7),
  ("temporary", 9),
  ("total GiB", 9),
  ("fits", 4),
  ("TFLOP", 8),
  ("seconds", 8),
  ("open", 6),
  ("hidden", 6),
  ("kernels", 7),
  ("of peak", 7),
)
_NAME = 34
# Cells as wide as the columns: rows are printed one by one, as they come to be known.
_HEADER = [" " * _NAME, *(name.rjust(width) for name, width in _COLUMNS)]


def heading(chip: Target, mesh: dict[str, int]) -> str:
  """Return what the table is about, and its columns.

  All but the FLOPs are per chip. `aliased` are the donated arguments in whose place
  results are written. `seconds` is the compiler's estimate, with what it does not
  estimate at the datasheet's speed: collectives that nothing hides, `open`, and Pallas
  `kernels`. `hidden` is the part of the bytes sent with computation between start and
  end. A plus marks FLOPs with something left out. What a compiler does not tell, as
  those of GPUs their times, is a dash.
  """
  axes = " x ".join(f"{name} {size}" for name, size in mesh.items())
  memory = chip.memory_bytes / 2**30
  return f"{chip.name}, {memory:g} GiB a chip, mesh {axes}\n" + tables.text(_HEADER, [])


def line(estimate: Estimate) -> str:
  """Return one program's row."""
  name = (
    estimate.name if len(estimate.name) <= _NAME else estimate.name[: _NAME - 3] + "..."
  )
  if estimate.refusal:
    return f"{name:{_NAME}}  does not fit: {estimate.refusal}"
  times = (
    f"{estimate.seconds:.4g}",
    f"{estimate.sent_seconds:.2g}",
    f"{100 * estimate.totals.hidden_share:.0f} %",
    f"{estimate.kernel_seconds:.2g}",
    f"{100 * estimate.share_of_peak:.0f} %",
  )
  cells = (
    f"{_gib(estimate.argument_bytes + estimate.output_bytes):.2f}",
    f"{_gib(estimate.aliased_bytes):.2f}",
    f"{_gib(estimate.temporary_bytes):.2f}",
    f"{_gib(estimate.total_bytes):.2f}",
    "yes" if estimate.fits else "NO",
    f"{estimate.counted.flops / 1e12:.4g}" + "+" * bool(estimate.counted.uncounted),
    *(times if estimate.chip.cycles_per_second else "-" * len(times)),
  )
  return tables.text(_HEADER, [[name, *cells]]).splitlines()[-1]


def collectives(estimates: Iterable[Estimate]) -> str:
  """Return the collectives of each program: how many, how many GiB a chip."""
  lines = ["collectives a chip takes part in, loops multiplied in:"]
  for estimate in estimates:
    kinds = [
      f"{kind} {estimate.totals.counts[kind]} ({_gib(size):.2f} GiB)"
      for kind, size in sorted(estimate.totals.bytes.items())
    ]
    lines.append(f"  {estimate.name}: " + (", ".join(kinds) or "none"))
  return "\n".join(lines)


def _gib(size: float) -> float:
  return size / 2**30
