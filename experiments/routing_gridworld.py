"""Scalable oversight: a Diamond expert by routing where few goals are overseen.

COMMAND:

  python -m experiments.routing_gridworld --config=configs/routing_gridworld.py \
      --workdir=DIR

The same command resumes with the parts that are missing; see configs/ for the sizes.
"""

import functools

from experiments import launch
from undo_jax.studies import study_files
from undo_jax.studies.gridworld import figures, study

run = functools.partial(study_files.run, study, figures.draw, free=study.FREE_FIELDS)

if __name__ == "__main__":
  launch.run_study(run)
