"""Runs the stages of a plan in a run directory, resuming what is unfinished.

    WORKDIR/config.json command.txt environment.json
    WORKDIR/stages/<name>-<identity>/ config.json metrics.jsonl tensorboard/
        checkpoints/ done.json
    WORKDIR/results.json report.html figures/

done.json is written last: a stage that has it is finished and only read. All processes
of a run are here at once; what is no array, the first one writes (see processes.py).
"""

from collections.abc import Callable
import logging

from undo_jax.distributed import preemption, processes
from undo_jax.plan import stages
from undo_jax.plan.stages import (
  AblateStage,
  AttackStage,
  DataStage,
  GivenStage,
  SaliencyStage,
  Stage,
  TrainStage,
)
from undo_jax.running.ablation import run_ablation
from undo_jax.running.attack import run_attack
from undo_jax.running.data import run_data
from undo_jax.running.given import run_given
from undo_jax.running.run import Outcome, Run
from undo_jax.running.saliency import run_saliency
from undo_jax.running.training import run_training
from undo_jax.utils import files
from undo_jax.utils.types import JsonObject

__all__ = ("Outcome", "Run", "run_stages", "summary")

LOGGER = logging.getLogger("undo_jax")
# How a stage of each kind runs: (run, stage, directory, title) -> outcome.
RUN: dict[type[Stage], Callable[..., Outcome]] = {
  DataStage: run_data,
  GivenStage: run_given,
  SaliencyStage: run_saliency,
  TrainStage: run_training,
  AblateStage: run_ablation,
  AttackStage: run_attack,
}


def run_stages(run: Run) -> dict[str, Outcome]:
  """Runs every unfinished stage in order; returns their done.json by name."""
  # What the first process sees is what holds: the others may see a file later.
  names = [stage.name for stage in run.stages]
  outcomes = processes.on_first(
    "done", lambda: {name: run.done(name) for name in names}
  )
  for number, stage in enumerate(run.stages, start=1):
    if outcomes[stage.name] is not None:
      continue
    directory = run.directories[stage.name]
    if processes.is_first():
      files.write_json(directory / "config.json", _describe(run, stage))
    title = f"[{number}/{len(run.stages)}] {run.label}{stage.name}"
    outcome = RUN[type(stage)](run, stage, directory, title)
    if processes.is_first():
      files.write_record(directory / "done.json", outcome)
    processes.wait(f"done_{directory.name}")  # Later stages read it, in every process.
    LOGGER.info("%s: done. %s", title, summary(outcome))
    outcomes[stage.name] = outcome
    preemption.check()
  return outcomes


def _describe(run: Run, stage: Stage) -> JsonObject:
  """Returns a stage's config.json: what determines it, and where its inputs are."""
  inputs = {role: run.directories[name].name for role, name in stage.inputs.items()}
  described = {**stages.to_json(stage), "input_directories": inputs}
  if stage.name in run.given:
    described["path"] = str(run.given[stage.name].path)
  return described


def summary(outcome: JsonObject) -> str:
  """Returns a finished stage's outcome in one line."""
  if "updates" in outcome:
    retain, forget = (_score(outcome["scores"][name]) for name in ("retain", "forget"))
    updates = f"{outcome['updates']} updates ({outcome['reason']})"
    return f"{updates}, retain {retain}, forget {forget}"
  if "batches" in outcome:
    return f"squared gradients of {outcome['batches']} batches of each part"
  if "steps" in outcome:
    worst = outcome["worst_forget"]
    return "worst forget: " + ", ".join(
      f"{worst[i]:.2f} after {outcome['steps'][i]}"
      for i in sorted({0, min(2, len(worst) - 1), len(worst) - 1})
    )
  return f"{outcome['rows']} rows, {outcome['evaluation']} evaluation problems"


def _score(value: float | None) -> str:
  return "not finite" if value is None else f"{value:.3f}"
