"""What pretrain, unlearn, distill, relearn and evaluate share: one stage alone."""

import dataclasses
import logging
import os
from typing import Any

from absl import flags

from experiments import launch
from undo_jax import running, stages
from undo_jax.checkpoints import sources
from undo_jax.distributed import processes
from undo_jax.utils import environment, files

LOGGER = logging.getLogger("undo_jax")


def main(kind: str) -> None:
  """Runs the stages of one kind; see stages.single."""
  config, workdir = launch.define_flags()
  checkpoint = flags.DEFINE_string(
    "checkpoint",
    None,
    "Start from this model: a stage's directory (WORKDIR/stages/NAME) or one of "
    "Hugging Face (config.json and safetensors). Its sizes replace config.model.",
  )
  models = flags.DEFINE_list("models", None, "Make only these of the stage's models.")

  def run(argv):
    del argv
    run_single(
      kind,
      config.value,
      str(workdir.value),
      checkpoint=checkpoint.value,
      models=models.value,
    )

  launch.run(run)


def run_single(
  kind: str,
  config: Any,
  workdir: str | os.PathLike[str],
  *,
  checkpoint: str | os.PathLike[str] | None = None,
  models: list[str] | None = None,
) -> dict[str, dict[str, Any]]:
  """Runs one stage alone; returns done.json of what ran, by name.

  Args:
    kind: one of stages.SINGLE.
    config: a whole ConfigDict; with a checkpoint its `model` is replaced.
    workdir: the run directory.
    checkpoint: a model to start from, or None.
    models: the names to make; None: all that the stage makes.
  """
  workdir, source = files.path(workdir), None
  if checkpoint is not None:
    source = sources.open_source(files.path(checkpoint), config.model)
    with config.unlocked():
      config.model = dataclasses.asdict(source.model)
  mesh = launch.check(config)
  plan = stages.single(config, kind, source and source.fingerprint)
  if models is not None:
    plan = stages.needed(plan, stages.named(plan, models))
  given = {stage.name: source for stage in plan if stage.kind == "given" and source}
  run = launch.claim(config, workdir, mesh, plan, given)
  if processes.on_first(
    "finished", lambda: all(run.done(stage.name) for stage in plan)
  ):
    LOGGER.info("nothing to do: these stages are finished")
  else:
    environment.record(workdir)
  outcomes = running.run_stages(run)
  for stage in plan if processes.is_first() else ():
    print(f"{stage.name}: {running.summary(outcomes[stage.name])}")
    print(f"  {run.directories[stage.name]}")
  return outcomes
