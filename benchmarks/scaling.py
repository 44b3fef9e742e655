"""Distillation of Gemma-2-2b over slices, batches, meshes and recomputation.

COMMAND, with the extra `tpu-compile` and no TPU, about a minute a row on an idle core:

  python -m benchmarks.scaling --topologies=v5e:2x2,v5e:4x4,v5e:16x16 --rows_a_chip=7
  python -m benchmarks.scaling --topologies=v5e:4x4,v5e:8x8,v5e:16x16 --rows=256
  python -m benchmarks.scaling --topologies=v5e:8x8 --rows_a_chip=7 \
      --meshes=all,16,16x2
  python -m benchmarks.scaling --topologies=v5e:4x4 --remats=none,dots,full \
      --rows_a_chip=1,2,4,7,14,28

Compiles UNDO's step of configs/pods.py for every slice, batch, mesh and remat given,
and prints bytes a chip, the compiler's time and what the collectives send. A mesh is
the size of `fsdp`, or `all` chips; "x" and a number is that of `tensor`; the rest of
the chips is `data`. What does not fit or does not divide is said in its row.
"""

from collections.abc import Iterator
import itertools
import os
import sys
from typing import Any, NamedTuple

from absl import app, flags
import jax

from benchmarks import slices
from undo_jax.estimation import topologies
from undo_jax.estimation.estimate import Estimate, estimate
from undo_jax.utils import tables
from undo_jax.utils.types import ConfigError

_TOPOLOGIES = flags.DEFINE_list("topologies", ["v5e:4x4"], "Slices.")
_ROWS = flags.DEFINE_list("rows", [], "Rows of an update, all chips together.")
_ROWS_A_CHIP = flags.DEFINE_list("rows_a_chip", [], "Rows of an update, of a chip.")
_MESHES = flags.DEFINE_list("meshes", ["16"], "fsdp, or fsdp x tensor.")
_REMATS = flags.DEFINE_list("remats", ["full"], "none, dots or full.")
_ATTENTION = flags.DEFINE_string("attention", "splash", "splash or plain.")
_LENGTH = flags.DEFINE_integer("length", 1024, "Tokens of a row.")
_SIZE = flags.DEFINE_string("size", "gemma2_2b", "Of configs/pods.py.")
_SHORT = {
  "all-gather": "gather",
  "all-reduce": "reduce",
  "all-to-all": "to-all",
  "collective-permute": "permute",
  "ragged-all-to-all": "ragged",
  "reduce-scatter": "scatter",
}


class Case(NamedTuple):
  """A row of the table."""

  topology: str
  rows: str  # Of an update, or "7 a chip".
  mesh: str
  remat: str


def cases() -> Iterator[Case]:
  """Yield the rows that the flags ask for."""
  rows = [*_ROWS.value, *(f"{number} a chip" for number in _ROWS_A_CHIP.value)]
  if not rows:
    raise ConfigError("give --rows or --rows_a_chip, one or more numbers")
  for values in itertools.product(
    _TOPOLOGIES.value, rows, _MESHES.value, _REMATS.value
  ):
    yield Case(*values)


def axes(mesh: str, num_chips: int) -> dict[str, int]:
  """Return the sizes of a mesh written as "16", "16x2" or "all".

  Of fewer chips than fsdp asks for, all are fsdp.
  """
  fsdp, _, tensor = mesh.partition("x")
  tensor = int(tensor or 1)
  chips = num_chips // tensor
  size = chips if fsdp == "all" else min(int(fsdp), chips)
  return {"data": -1, "fsdp": size, "tensor": tensor}


def compiled(case: Case) -> tuple[Estimate, dict[str, int], int]:
  """Return the estimate of a row, its mesh and its rows of an update."""
  devices, chip = topologies.get(case.topology)
  number, _, per = case.rows.partition(" ")
  rows = int(number) * (len(devices) if per else 1)
  mesh = axes(case.mesh, len(devices))
  lowered = slices.distillation(
    devices,
    rows=rows,
    length=_LENGTH.value,
    size=_SIZE.value,
    mesh=mesh,
    remat=case.remat,
    attention=_ATTENTION.value,
  )
  estimated = estimate(case.topology, lowered.program, lowered.args, chip, len(devices))
  data = len(devices) // mesh["fsdp"] // mesh["tensor"]
  return estimated, mesh | {"data": data}, rows


def row(case: Case) -> list[str]:
  """Return a case's row of the table."""
  try:
    estimated, mesh, rows = compiled(case)
  except ConfigError as error:
    head = [case.topology, str(case.rows), case.mesh, case.remat]
    return [*head, f"cannot be: {error}", *[""] * 7]
  sizes = " x ".join(f"{name} {size}" for name, size in mesh.items() if size > 1)
  head = [case.topology, str(rows), sizes or "1", case.remat]
  if estimated.refusal:
    return [*head, f"does not fit: {estimated.refusal}", *[""] * 7]
  return [
    *head,
    f"{estimated.argument_bytes / 2**30:.2f}",
    f"{estimated.temporary_bytes / 2**30:.2f}",
    f"{estimated.total_bytes / 2**30:.2f}"
    + ("" if estimated.fits else " **does not fit**"),
    f"{estimated.seconds:.3g}",
    f"{100 * estimated.share_of_peak:.0f} %",
    f"{estimated.sent_seconds:.2g}",
    f"{100 * estimated.totals.hidden_share:.0f} %",
    _collectives(estimated),
  ]


def _collectives(estimated: Estimate) -> str:
  kinds: Any = sorted(estimated.totals.bytes.items())
  return ", ".join(f"{_SHORT[kind]} {size / 2**30:.2f}" for kind, size in kinds)


COLUMNS = (
  "slice",
  "rows",
  "mesh",
  "remat",
  "arguments",
  "temporary",
  "total",
  "seconds",
  "of peak",
  "open s",
  "hidden",
  "collectives, GiB a chip",
)


def main(argv):
  del argv
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  jax.config.update("jax_platforms", "cpu")
  print(slices.versions(), flush=True)
  rows = []
  for case in cases():
    rows.append(row(case))
    print(*rows[-1], file=sys.stderr, flush=True)
  print(tables.markdown(COLUMNS, rows))


if __name__ == "__main__":
  app.run(main)
