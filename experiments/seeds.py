"""Several seeds of one config as one result: means, ranges, figures, a page.

  python -m experiments.seeds --output=runs/arithmetic_seeds \
      runs/arithmetic runs/seed1 runs/seed2

Each directory holds the results.json of a finished run of experiments.undo. Writes
results.json (see undo_jax/frontier/seeds.py), report.html and figures.
"""

import logging
import pathlib

from absl import flags

from experiments import launch
from undo_jax.frontier import report, seeds
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")
_OUTPUT = flags.DEFINE_string("output", None, "Directory to write.", required=True)


def main(argv: list[str]) -> None:
  """Reads the runs that are named after the flags, writes their combination."""
  runs = {}
  for name in argv[1:]:
    path = pathlib.Path(name) / "results.json"
    if not path.is_file():
      raise ConfigError(f"expected the results of a finished run, but no {path}")
    runs[name] = files.read_json(path)
  found = seeds.combine(runs)
  output = pathlib.Path(_OUTPUT.value)
  files.write_json(output / "results.json", found)
  page = report.write(found, output)[-1]
  print(report.text_table(found))
  LOGGER.info("results are in %s", page)


if __name__ == "__main__":
  launch.run(main)
