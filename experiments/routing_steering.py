"""A steering scalar: one token routed to one dimension of the residual stream.

COMMAND:

  python -m experiments.routing_steering --config=configs/routing_steering.py \
      --workdir=DIR

The same command resumes with the seeds that are missing; see configs/ for the sizes.
"""

import functools

from experiments import launch
from undo_jax.studies import study_files
from undo_jax.studies.steering import figures, study

run = functools.partial(study_files.run, study, figures.draw)

if __name__ == "__main__":
  launch.run_study(run)
