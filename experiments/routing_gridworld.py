"""Scalable oversight: a Diamond expert by routing where few goals are overseen.

COMMAND:

  python -m experiments.routing_gridworld --config=configs/routing_gridworld.py \
      --workdir=DIR

The same command resumes with the parts that are missing; see configs/ for the sizes.
"""

import functools
from typing import Any

from experiments import launch
from undo_jax import files
from undo_jax.studies import study_files
from undo_jax.studies.gridworld import figures, study


def run(config: Any, workdir: files.Path) -> None:
  """Checks the config, trains its methods and writes results and figures."""
  study.check(config)
  parts = study_files.run_parts(
    config,
    workdir,
    study.part_names(config),
    functools.partial(study.compute, config),
    free=study.FREE_FIELDS,
  )
  results = study.assemble(config, parts)
  study_files.write(workdir, results, figures.draw(results))
  print(study.table(results))


if __name__ == "__main__":
  launch.run_study(run)
