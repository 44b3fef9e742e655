"""Split representations: what each half of a routed autoencoder's code knows.

COMMAND:

  python -m experiments.routing_splitting --config=configs/routing_splitting.py \
      --workdir=DIR

The same command resumes with the seeds that are missing; see configs/ for the sizes.
"""

import functools
from typing import Any

from experiments import launch
from undo_jax.data import images as images_lib
from undo_jax.studies import study_files
from undo_jax.studies.splitting import figures, study
from undo_jax.utils import files


def run(config: Any, workdir: files.Path) -> None:
  """Checks the config, trains its settings and writes results and figures."""
  study.check(config)
  images = images_lib.load(config.data.path)
  parts = study_files.run_parts(
    config,
    workdir,
    study.part_names(config),
    functools.partial(study.compute, config, images),
    free=study.FREE_FIELDS,
  )
  results = study.assemble(config, images, parts)
  study_files.write(workdir, results, figures.draw(results, images, parts))
  print(study.table(results))


if __name__ == "__main__":
  launch.run_study(run)
