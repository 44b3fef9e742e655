r"""Several seeds of one config as one result: means, ranges, figures, a page.

  undo-jax seeds --output=runs/arithmetic_seeds \
      runs/arithmetic runs/seed1 runs/seed2

Each directory holds the results.json of a finished run of undo. Writes
results.json (see undo_jax/frontier/results.py), report.html and figures.
"""

from collections.abc import Sequence
import logging
import os
import pathlib

from absl import flags

from undo_jax.cli.process import Main
from undo_jax.frontier import report, results
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")


def define() -> Main:
  """Defines the flags; the main reads the runs that are named after them."""
  output = flags.DEFINE_string("output", None, "Directory to write.", required=True)
  return lambda argv: combine(argv[1:], pathlib.Path(str(output.value)))


def combine(directories: Sequence[str], output: pathlib.Path) -> None:
  """Writes the results of several runs as one, and prints their table."""
  runs = {}
  for name in directories:
    path = pathlib.Path(name) / "results.json"
    if not path.is_file():
      raise ConfigError(f"expected the results of a finished run, but no {path}")
    runs[name] = results.from_json(files.read_record(path), path=str(path))
  if len(runs) < 2:
    raise ConfigError(f"expected the directories of two runs or more, got {len(runs)}")
  merged = results.merge(runs)
  files.write_json(output / "results.json", results.to_json(merged))
  workdirs = {
    seed: os.path.relpath(name, output)
    for name, of_run in runs.items()
    for seed in of_run.seeds
  }
  page = report.write(merged, output, workdirs=workdirs)[-1]
  print(report.text_table(merged))
  LOGGER.info("results are in %s", page)
