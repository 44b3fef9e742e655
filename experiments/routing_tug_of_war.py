"""The tug of war of routing, and its mending by the coherence term.

COMMAND:

  python -m experiments.routing_tug_of_war --config=configs/routing_tug_of_war.py \
      --workdir=DIR

The same command resumes with the seeds that are missing; see configs/ for the sizes.
"""

import functools

from experiments import launch
from undo_jax.studies import study_files
from undo_jax.studies.tug_of_war import figures, study

run = functools.partial(study_files.run, study, figures.draw)

if __name__ == "__main__":
  launch.run_study(run)
