"""Models with reserved units: what they are without them."""

from collections.abc import Callable
import dataclasses
import logging

import jax

from undo_jax.frontier import compute
from undo_jax.models.config import ModelConfig
from undo_jax.running import programs
from undo_jax.running.run import Run, floats, load, problems_of, score_names, scorer_of
from undo_jax.stages import Stage
from undo_jax.training.checkpointing import Checkpoints

LOGGER = logging.getLogger("undo_jax")


# Before the scores that a model of reserved units has once they are ablated.
ABLATED = "ablated_"


def ablation(run: Run, stage: Stage) -> Callable | None:
  """Returns programs.ablate of a stage with reserved units, or else None."""
  routing = stage.settings.get("routing")
  if routing is None:
    return None
  model = ModelConfig(**stage.settings["model"])
  return programs.ablate(model, run.mesh, routing["mlp_units"], routing["kv_heads"])


def evaluation(run: Run, stage: Stage, score: Callable) -> Callable:
  """Returns `params -> scores`; of a routed model also of what ablation leaves."""
  ablate = ablation(run, stage)

  def evaluate(params):
    scores = floats(score(params))
    if ablate is None:
      return scores
    ablated = floats(score(ablate(params)[0]))
    return scores | {ABLATED + name: value for name, value in ablated.items()}

  return evaluate


def run_ablation(run, stage, directory, title):
  """Makes the reserved units of a routed model zero, and scores what is left."""
  LOGGER.info("%s: ablating the reserved units", title)
  model = ModelConfig(**stage.settings["model"])
  whole = stage.inputs["model"]
  ablate = ablation(run, stage)
  assert ablate is not None, "an ablation's settings say what was reserved"
  params, is_ablated = ablate(load(run, whole, model))
  assert is_ablated, "every reserved entry is zero"
  checkpoints = Checkpoints(directory / "checkpoints")
  checkpoints.save(0, params, {"step": jax.numpy.zeros((), int)})
  checkpoints.close()
  tasks, problems = problems_of(run, stage)
  before = run.done(whole)
  assert before is not None, "the routed model comes first in the plan"
  return {
    "scores": floats(scorer_of(run, stage, model, tasks)(params, problems)),
    "whole": {name: before["scores"][name] for name in score_names(tasks)},
    "updates": 0,
    "reason": "ablated",
    "compute": dataclasses.asdict(compute.Compute()),
  }
