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


def line(found: Estimate) -> str:
  """Return one program's row."""
  name = found.name if len(found.name) <= _NAME else found.name[: _NAME - 3] + "..."
  if found.refusal:
    return f"{name:{_NAME}}  does not fit: {found.refusal}"
  times = (
    f"{found.seconds:.4g}",
    f"{found.sent_seconds:.2g}",
    f"{100 * found.found.hidden_share:.0f} %",
    f"{found.kernel_seconds:.2g}",
    f"{100 * found.share_of_peak:.0f} %",
  )
  cells = (
    f"{_gib(found.argument_bytes + found.output_bytes):.2f}",
    f"{_gib(found.aliased_bytes):.2f}",
    f"{_gib(found.temporary_bytes):.2f}",
    f"{_gib(found.total_bytes):.2f}",
    "yes" if found.fits else "NO",
    f"{found.counted.flops / 1e12:.4g}" + "+" * bool(found.counted.uncounted),
    *(times if found.chip.cycles_per_second else "-" * len(times)),
  )
  return tables.text(_HEADER, [[name, *cells]]).splitlines()[-1]


def collectives(estimates: Iterable[Estimate]) -> str:
  """Return the collectives of each program: how many, how many GiB a chip."""
  lines = ["collectives a chip takes part in, loops multiplied in:"]
  for found in estimates:
    kinds = [
      f"{kind} {found.found.counts[kind]} ({_gib(size):.2f} GiB)"
      for kind, size in sorted(found.found.bytes.items())
    ]
    lines.append(f"  {found.name}: " + (", ".join(kinds) or "none"))
  return "\n".join(lines)


def _gib(size: float) -> float:
  return size / 2**30
