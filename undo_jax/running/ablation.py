"""Models with reserved units: what they are without them."""

from collections.abc import Callable
import dataclasses
import logging

import jax

from undo_jax.frontier import compute
from undo_jax.plan.stages import AblateStage, TrainStage
from undo_jax.running import programs
from undo_jax.running.run import (
  Outcome,
  Run,
  Score,
  Scores,
  checkpoints_of,
  finite,
  load,
  scores_of,
)
from undo_jax.utils import files
from undo_jax.utils.types import Params, Problems

LOGGER = logging.getLogger("undo_jax")


# Before the scores that a model of reserved units has once they are ablated.
ABLATED = "ablated_"


def ablation(run: Run, stage: TrainStage | AblateStage) -> programs.Ablate | None:
  """Return programs.ablate of a stage with reserved units, or else None."""
  if stage.reserve is None:
    return None
  reserve = stage.reserve
  return programs.ablate(stage.model, run.mesh, reserve.mlp_units, reserve.kv_heads)


def evaluation(
  run: Run, stage: TrainStage, score: Score, problems: Problems
) -> Callable[[Params], Scores]:
  """Return `params -> scores`; of a routed model also of what ablation leaves.

  What is returned raises FloatingPointError where they are not finite.
  """
  ablate = ablation(run, stage)

  def evaluate(params: Params) -> Scores:
    scores = finite(stage.name, score(params, problems))
    if ablate is None:
      return scores
    ablated = finite(stage.name, score(ablate(params)[0], problems))
    return scores | {ABLATED + name: value for name, value in ablated.items()}

  return evaluate


def run_ablation(
  run: Run, stage: AblateStage, directory: files.Path, title: str
) -> Outcome:
  """Set the reserved units of a routed model to zero, and score what is left."""
  LOGGER.info("%s: ablating the reserved units", title)
  ablate = ablation(run, stage)
  assert ablate is not None, "an ablation's record says what was reserved"
  params, is_ablated = ablate(load(run, stage.whole, stage.model))
  assert is_ablated, "every reserved entry is zero"
  checkpoints = checkpoints_of(run, directory)
  checkpoints.save(0, params, {"step": jax.numpy.zeros((), int)})
  checkpoints.finish()
  checkpoints.close()
  before = run.done(stage.whole)
  assert before is not None, "the routed model comes first in the plan"
  scored = scores_of(run, stage, params)
  return {
    **scored,
    "whole": {name: before["scores"][name] for name in scored["scores"]},
    "updates": 0,
    "reason": "ablated",
    "compute": dataclasses.asdict(compute.Compute()),
  }
