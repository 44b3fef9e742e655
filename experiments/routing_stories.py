"""Expand, route, ablate on stories, beside data filtering, RMU and SGTM.

COMMAND:

  python -m experiments.routing_stories --config=configs/routing_stories.py \
      --workdir=DIR

The same command resumes with the seeds that are missing; see configs/ for the sizes.
"""

import functools

from experiments import launch
from undo_jax.studies import study_files
from undo_jax.studies.stories import figures, study

run = functools.partial(study_files.run, study, figures.draw)

if __name__ == "__main__":
  launch.run_study(run)
