"""An edit of a model's weights: an attack that is scored as it stands."""

import dataclasses
import json
import math

import jax
import numpy as np

from undo_jax import tasks
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import compute
from undo_jax.frontier.robustness import worst_case
from undo_jax.plan.stages import EditStage
from undo_jax.running import programs
from undo_jax.running.run import Outcome, Run, load, problems_of, rounded, scorer_of
from undo_jax.training.writers import Progress
from undo_jax.utils import files, streams
from undo_jax.utils.types import ConfigError


def run_edit(run: Run, stage: EditStage, directory: files.Path, title: str) -> Outcome:
  """Edits a model at one strength after the other, and scores what comes of it.

  Nothing is trained, and nothing is kept of the edited models but their scores.
  """
  del directory
  params = load(run, stage.target, stage.model)
  base = None if stage.base is None else load(run, stage.base, stage.model)
  names, problems = problems_of(run)
  score = scorer_of(run, stage, names)
  key = _key(stage)
  progress = Progress(title, total=len(stage.strengths), initial=0, unit="strength")
  found = []
  for strength in stage.strengths:
    options = json.dumps(stage.options)
    edit = programs.edit(stage.model, run.mesh, stage.edit, options, strength)
    found.append(score(edit(params, base, key), problems))
    progress.update(1)
  progress.close()
  scores = {name: [[each[name]] for each in found] for name in found[0]}
  return {
    "strengths": list(stage.strengths),
    "cost": dataclasses.asdict(compute.Compute()),  # Of an update: there is none.
    "steps": [0],
    "worst_forget": rounded(_worst(stage, scores["forget"])),
    "scores": scores,
  }


def _key(stage: EditStage) -> jax.Array:
  """Returns what an edit draws from; where it draws nothing, any."""
  seed = stage.seeds.get(stage.stream)
  return jax.random.key(0) if seed is None else streams.key(seed, "edit")


def _worst(stage: EditStage, forget_Rx1: list[list[float | None]]) -> np.ndarray:
  """Returns the worst forget score [1] over the strengths."""
  scores = [[math.nan if x is None else x for x in row] for row in forget_Rx1]
  metric = tasks.get(stage.task).metrics["forget"]
  try:
    return worst_case(np.array(scores), higher_is_worse=higher_is_worse(metric))[0]
  except ValueError:  # All are NaN.
    raise ConfigError(
      f"config.attacks.{stage.attack}.strengths: expected one at which "
      f"{stage.target} has a finite score, got {list(stage.strengths)}; add a weaker "
      "one"
    ) from None
