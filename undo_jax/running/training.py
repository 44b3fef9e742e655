"""Trained models: pretraining, unlearning, distillation."""

import contextlib
import dataclasses
import functools
import logging

from undo_jax import objectives
from undo_jax.data import pipeline
from undo_jax.distributed import preemption, sharding
from undo_jax.frontier import compute
from undo_jax.plan.stages import TrainStage
from undo_jax.running import programs
from undo_jax.running.ablation import evaluation
from undo_jax.running.data import batches_of, check_labels, describe_batch
from undo_jax.running.run import (
  Outcome,
  Run,
  checkpoints_of,
  load,
  meter_of,
  problems_of,
  scorer_of,
  writer_of,
)
from undo_jax.running.stopping import check_stop_rules, stop_rule
from undo_jax.training import loop
from undo_jax.training.profiling import Profiler
from undo_jax.training.writers import Progress
from undo_jax.utils import allocator, files, streams
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")


def run_training(
  run: Run, stage: TrainStage, directory: files.Path, title: str
) -> Outcome:
  """Trains one model: pretraining, unlearning and distillation alike."""
  program = programs.training_of(stage, run.mesh)
  batches = batches_of(run, stage)
  names, problems = problems_of(run)
  check_stop_rules(run, names)
  check_labels(run)
  checkpoints = checkpoints_of(run, directory)
  start = checkpoints.latest()
  if start is None:
    state = program.create(_initial_params(run, stage))
  else:
    LOGGER.info("%s: resuming after update %d", title, start)
    state = loop.restore(checkpoints, start, program.abstract)
  frozen = _frozen(run, stage)
  allocator.return_freed_memory()
  mirror, done = files.Mirror(directory), start or 0
  with contextlib.ExitStack() as stack:
    stack.callback(checkpoints.close)
    writer = writer_of(run, mirror, done)
    stack.callback(writer.close)
    profiler = Profiler(mirror.local / "profile", run.profile_steps)
    stack.callback(profiler.close)
    progress = Progress(title, total=stage.optimizer.num_steps, initial=done)
    stack.callback(progress.close)
    stack.enter_context(preemption.deferred())
    result = loop.train(
      program.step,
      state,
      frozen,
      pipeline.iterator(batches, start=done),
      streams.key(stage.seeds[stage.order_stream], stage.name),
      schedule=_schedule(run, stage),
      put=functools.partial(sharding.put_batch, mesh=run.mesh),
      evaluate=evaluation(run, stage, scorer_of(run, stage, names), problems),
      should_stop=stop_rule(run, stage),
      checkpoints=checkpoints,
      writer=writer,
      progress=progress,
      meter=meter_of(run, _cost(stage, updates=1)),
      profiler=profiler,
      describe_batch=functools.partial(describe_batch, run, stage),
    )
  return {
    "scores": result.scores,
    "updates": result.updates,
    "reason": result.reason,
    "compute": dataclasses.asdict(_cost(stage, updates=result.updates)),
  }


def _schedule(run: Run, stage: TrainStage) -> loop.Schedule:
  return loop.Schedule(
    num_steps=stage.optimizer.num_steps,
    checkpoint_every=run.checkpoint_every,
    evaluate_every=stage.stop and stage.stop.evaluate_every,
    max_loss=run.max_loss,
  )


def _cost(stage: TrainStage, *, updates: int) -> compute.Compute:
  """Returns what so many updates of a stage cost."""
  return compute.training(
    stage.model,
    objectives.method(stage.objective, stage.options),
    updates=updates,
    batch_size=stage.batch_size,
    length=stage.length,
    gradients=2 if stage.rho else 1,
  )


def _initial_params(run: Run, stage: TrainStage) -> Params:
  """Returns where training starts.

  Another stage's model, moved toward random initialization as far as it is trained if
  the stage has noise; or fresh weights.
  """
  if stage.init is None:
    key = streams.key(stage.seeds[stage.init_stream], stage.init_stream)
    return programs.initialize(stage.model, run.mesh)(key)
  params = load(run, stage.init, stage.model)
  if stage.noise is None:
    return params
  key = streams.key(stage.seeds["noise"], "noise")
  perturb = programs.noise(stage.model, run.mesh, stage.trainable)
  return perturb(params, key, stage.noise.alpha, stage.noise.beta)


def _frozen(run: Run, stage: TrainStage) -> dict[str, Params]:
  """Returns what the objective reads: models by role, and what is drawn."""
  method = objectives.method(stage.objective, stage.options)
  frozen: dict[str, Params] = {}
  for role, model in stage.frozen.items():
    freeze = programs.freeze(stage.model, run.mesh)
    frozen[role] = freeze(load(run, model, stage.model))
  for role, draw in method.derived.items():
    array = draw(streams.key(stage.seeds["noise"], role), stage.model)
    frozen[role] = sharding.put_whole(array, sharding.replicated(run.mesh))
  return frozen
