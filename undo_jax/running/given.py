"""Models that came from a checkpoint: only scored."""

import dataclasses
import logging

from undo_jax.frontier import compute
from undo_jax.plan.stages import GivenStage
from undo_jax.running.run import Outcome, Run, load, scores_of
from undo_jax.utils import files

LOGGER = logging.getLogger("undo_jax")


def run_given(
  run: Run, stage: GivenStage, directory: files.Path, title: str
) -> Outcome:
  """Score a model that came from a checkpoint."""
  del directory
  LOGGER.info("%s: scoring %s", title, run.given[stage.name].path)
  return {
    **scores_of(run, stage, load(run, stage.name, stage.model)),
    "updates": 0,
    "reason": "given",
    "compute": dataclasses.asdict(compute.Compute()),
  }
