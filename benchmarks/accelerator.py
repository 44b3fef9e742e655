"""What one GPU or TPU does with the library, in one script of a few minutes.

COMMAND, at most 8 minutes on one GPU or TPU; on a CPU with --sizes=toy:

  python -m benchmarks.accelerator --output=DIR

It finds what is there and measures, each in a process of its own:

  device      its name, memory and peak; the versions.
  small SIZE  updates a second of a model of 0.4 M parameters, by one update a dispatch
              and by several.
  tests       a subset of the tests, on the device.
  train SIZE  pretraining, distillation, the relearning attack and generation of a
              model of Gemma-2's form, computed in bfloat16.
  torch SIZE  the same distillation in PyTorch where it is installed: transformers'
              model under torch.compile, with its best attention that has the softcap.

A share of the peak counts the FLOPs of the method once, whatever is computed again.
What does not fit is tried with more recomputation and then with fewer rows. A part that
fails is told in the table and ends nothing else; so is one whose time is over.
DIR/results.json and DIR/results.md are written anew after each part; DIR/log.txt has
what the parts print. Weights are random, each side's own: `distillation_step` checks
that both do equal work.
"""

from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import time

from absl import app, flags

from benchmarks import common
from benchmarks.accelerator_common import Row, Setting
from benchmarks.accelerator_parts import Part, measure
from undo_jax.utils import tables

PACKAGES = "jax jaxlib flax optax torch transformers numpy".split()
SIZES = ("0.1b", "0.3b", "2b")
# Of one device; their arithmetic is held against NumPy or closed forms.
TESTS = (
  "tests/models/attention_test.py",
  "tests/objectives/divergences_test.py",
  "tests/objectives/cross_entropy_test.py",
  "tests/training/step_test.py",
)
SHORTEST = 2.0  # Seconds; with fewer left no part begins.

_OUTPUT = flags.DEFINE_string("output", None, "Directory of the tables.", required=True)
_MINUTES = flags.DEFINE_float("minutes", 8.0, "For all parts.", lower_bound=0.0)
_SIZES = flags.DEFINE_list("sizes", list(SIZES), "Some of: toy, " + ", ".join(SIZES))
_TESTS = flags.DEFINE_list("tests", list(TESTS), "Files of tests; none: no tests.")
_SECONDS = flags.DEFINE_float(
  "seconds", 3.0, "Seconds for which a program is timed.", lower_bound=0.0
)


def parts(sizes: Sequence[str], tests: Sequence[str]) -> list[Part]:
  """Return all parts after the device's, what says most in the least time first."""
  small = "toy" if "toy" in sizes else "0.4m"
  chosen = [Part("small", small), *([Part("tests")] if tests else [])]
  for size in sizes:
    chosen += [Part("train", size), Part("torch", size)]
  return chosen


# MARK: the tables


HEADER = (
  "what",
  "size",
  "side",
  "rows x tokens",
  "a second (min..max)",
  "of peak",
  "GiB",
  "compiling, s",
  "note",
)


def cells(row: Row) -> list[str]:
  """Return a row of the table; what was not measured is empty."""

  def of(name, form):
    return form(row[name]) if row.get(name) is not None else ""

  return [
    row["what"],
    row.get("size", ""),
    row.get("side", ""),
    row.get("batch", ""),
    of("speeds", lambda x: f"{common.spread(x, 1)} {row['unit']}"),
    of("share", lambda x: f"{100 * x:.1f} %"),
    of("memory_bytes", lambda x: f"{x / 2**30:.2f}"),
    of("compile_seconds", lambda x: f"{x:.1f}"),
    row.get("note", "").replace("|", "\\|"),
  ]


def write(directory: pathlib.Path, machine: Row, device: Row, rows: list[Row]) -> None:
  """Write both tables."""
  content = {"machine": machine, "device": device, "rows": rows}
  (directory / "results.json").write_text(json.dumps(content, indent=2) + "\n")
  text = [
    f"# {device.get('kind', 'no device was found')}",
    "",
    tables.markdown(HEADER, [cells(row) for row in rows]),
    "",
    f"- Device: {json.dumps(device)}",
    common.machine_text(machine),
  ]
  (directory / "results.md").write_text("\n".join(text) + "\n")


def main(argv: list[str]) -> None:
  """Measure all parts, and writes the tables after each."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  wrong = set(_SIZES.value) - {"toy", *SIZES}
  if wrong:
    expected = ", ".join(("toy", *SIZES))
    raise app.UsageError(f"--sizes: expected some of {expected}, got {sorted(wrong)}")
  end = time.monotonic() + 60 * _MINUTES.value
  directory = pathlib.Path(_OUTPUT.value)
  directory.mkdir(parents=True, exist_ok=True)
  (directory / "log.txt").unlink(missing_ok=True)
  # Of one model in one process: nobody else is at the device.
  os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
  setting = Setting(_SECONDS.value, tuple(_TESTS.value))
  machine = common.describe(PACKAGES)
  rows = measure(Part("device"), setting, directory, 60 * _MINUTES.value)
  device = rows[0] if "kind" in rows[0] else {}
  rows = [row for row in rows if "what" in row]
  setting = dataclasses.replace(
    setting, platform=device.get("platform", ""), peak=device.get("peak")
  )
  todo = parts(_SIZES.value, _TESTS.value)
  for index, part in enumerate(todo):
    left = end - time.monotonic()
    limit = min(left, 2 * left / (len(todo) - index))
    if not device:
      break
    if limit < SHORTEST:
      rows.append({"what": part.name, "note": "left out, the time was over"})
    else:
      rows += measure(part, setting, directory, limit)
    write(directory, machine, device, rows)
  write(directory, machine, device, rows)
  print((directory / "results.md").read_text())


if __name__ == "__main__":
  app.run(main)
