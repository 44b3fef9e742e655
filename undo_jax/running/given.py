"""Models that came from a checkpoint: only scored."""

import dataclasses
import logging

from undo_jax.frontier import compute
from undo_jax.models.config import ModelConfig
from undo_jax.running.run import floats, load, problems_of, scorer_of

LOGGER = logging.getLogger("undo_jax")


def run_given(run, stage, directory, title):
  """Scores a model that came from a checkpoint."""
  del directory
  LOGGER.info("%s: scoring %s", title, run.given[stage.name].path)
  model = ModelConfig(**stage.settings["model"])
  tasks, problems = problems_of(run, stage)
  score = scorer_of(run, stage, model, tasks)
  return {
    "scores": floats(score(load(run, stage.name, model), problems)),
    "updates": 0,
    "reason": "given",
    "compute": dataclasses.asdict(compute.Compute()),
  }
