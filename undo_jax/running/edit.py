"""An edit of a model's weights: an attack that is scored as it stands."""

import dataclasses
import json
import math
from typing import Any

import jax
import numpy as np

from undo_jax import attacks, tasks
from undo_jax.data import pipeline
from undo_jax.distributed import sharding
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import compute
from undo_jax.frontier.robustness import worst_case
from undo_jax.hardware.flops import forward_flops
from undo_jax.plan.stages import EditStage
from undo_jax.running import programs
from undo_jax.running.data import batches_of
from undo_jax.running.run import (
  Outcome,
  Run,
  load,
  problems_of,
  rounded,
  scorer_of,
  worked_problems_of,
)
from undo_jax.training.writers import Progress
from undo_jax.utils import files, streams
from undo_jax.utils.types import ConfigError


def run_edit(run: Run, stage: EditStage, directory: files.Path, title: str) -> Outcome:
  """Edit a model at one strength after the other, and score each result.

  Nothing is trained, and nothing is kept of the edited models but their scores.
  """
  del directory
  params = load(run, stage.target, stage.model)
  base = None if stage.base is None else load(run, stage.base, stage.model)
  names, problems = problems_of(run)
  batch, key = _rows(run, stage), _key(stage)
  progress = Progress(title, total=len(stage.strengths), initial=0, unit="strength")
  scored = []
  for strength in stage.strengths:
    edit = (stage.edit, json.dumps(stage.options), strength)
    is_beside = attacks.EDITS.get(stage.edit).beside is not None
    if is_beside:
      find = programs.find_beside(stage.model, run.mesh, *edit)
      tree = find(params, batch, key) | {"base": params}
    else:
      tree = programs.edit(stage.model, run.mesh, *edit)(params, base, key)
    if attacks.EDITS.get(stage.edit).is_worked:
      seed = streams.integer(stage.seeds[stage.stream], "edit")
      problems = worked_problems_of(run, int(strength), seed)
    score = scorer_of(run, stage, names, edit if is_beside else None)
    scored.append(score(tree, problems))
    progress.update(1)
  progress.close()
  scores = {name: [[each[name]] for each in scored] for name in scored[0]}
  return {
    "strengths": list(stage.strengths),
    "search_cost": dataclasses.asdict(cost(stage)),  # Of what is beside the weights.
    "cost": dataclasses.asdict(compute.Compute()),  # Of an update: there is none.
    "steps": [0],
    "worst_forget": rounded(_worst(stage, scores["forget"])),
    "scores": scores,
  }


def cost(stage: EditStage) -> compute.Compute:
  """Return the cost of the search for what stands beside the weights."""
  edit = attacks.EDITS.get(stage.edit)
  if edit.beside is None:
    return compute.Compute()
  options, total = edit.parse(stage.options), compute.Compute()
  for strength in stage.strengths:
    passes = edit.beside.passes(strength, options, stage.batch_size)
    if passes:
      length = stage.length + edit.beside.tokens(strength)
      flops = passes * forward_flops(stage.model, length)
      total += compute.Compute(tokens=passes * length, flops=flops)
  return total


def _rows(run: Run, stage: EditStage) -> Any:
  """Return the batch of the attacker's rows by part; where none are read, {}."""
  if stage.parts is None:
    return {}
  batch = next(pipeline.iterator(batches_of(run, stage)))
  return sharding.put_batch(batch, run.mesh)


def _key(stage: EditStage) -> jax.Array:
  """Return the key that an edit draws from; any key if it draws nothing."""
  seed = stage.seeds.get(stage.stream)
  return jax.random.key(0) if seed is None else streams.key(seed, "edit")


def _worst(stage: EditStage, forget_Rx1: list[list[float | None]]) -> np.ndarray:
  """Return the worst forget score [1] over the strengths."""
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
