"""Trained models: pretraining, unlearning, distillation."""

import dataclasses
import functools
import logging
from typing import Any

from undo_jax import objectives
from undo_jax.data import pipeline
from undo_jax.distributed import preemption, sharding
from undo_jax.frontier import compute
from undo_jax.models.config import ModelConfig
from undo_jax.objectives import rmu
from undo_jax.running import programs
from undo_jax.running.ablation import evaluation
from undo_jax.running.data import batches_of, check_labels, describe_batch
from undo_jax.running.run import Run, load, meter_of, problems_of, scorer_of, writer_of
from undo_jax.running.stopping import check_stop_rules, stop_rule
from undo_jax.stages import Stage
from undo_jax.training import loop
from undo_jax.training.checkpointing import Checkpoints
from undo_jax.training.profiling import Profiler
from undo_jax.training.writers import Progress
from undo_jax.utils import files, streams
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")


def run_training(run, stage, directory, title):
  """Trains one model: pretraining, unlearning and distillation alike."""
  settings = stage.settings
  model = ModelConfig(**settings["model"])
  program = programs.training_of(settings, run.mesh)
  data_stream = "distill_data" if "distill_data" in settings["seeds"] else "data"
  rows = settings["batch_size"]
  batches = batches_of(run, stage, stream=data_stream, batch_size=rows)
  tasks, problems = problems_of(run, stage)
  check_stop_rules(run, tasks)
  check_labels(run)
  score = scorer_of(run, stage, model, tasks)
  checkpoints = Checkpoints(directory / "checkpoints")
  start = checkpoints.latest()
  if start is None:
    state = program.create(_initial_params(run, stage, model))
  else:
    LOGGER.info("%s: resuming after update %d", title, start)
    state = loop.restore(checkpoints, start, program.abstract)
  stop = settings["stop"]
  num_steps = settings["optimizer"]["num_steps"]
  mirror = files.Mirror(directory)
  writer = writer_of(mirror, start or 0)
  profiler = Profiler(mirror.local / "profile", run.profile_steps)
  progress = Progress(title, total=num_steps, initial=start or 0)
  try:
    with preemption.deferred():
      result = loop.train(
        program.step,
        state,
        _frozen(run, stage, model),
        pipeline.iterator(batches, start=start or 0),
        streams.key(settings["seeds"][data_stream], stage.name),
        schedule=loop.Schedule(
          num_steps=num_steps,
          checkpoint_every=run.checkpoint_every,
          evaluate_every=stop and stop["evaluate_every"],
          max_loss=run.max_loss,
        ),
        put=functools.partial(sharding.put_batch, mesh=run.mesh),
        evaluate=evaluation(run, stage, lambda params: score(params, problems)),
        should_stop=stop_rule(run, stage),
        checkpoints=checkpoints,
        writer=writer,
        progress=progress,
        meter=meter_of(run, _cost(stage, model, updates=1)),
        profiler=profiler,
        describe_batch=functools.partial(describe_batch, run, stage, data_stream),
      )
  finally:
    progress.close()
    profiler.close()
    writer.close()
    checkpoints.close()
  cost = _cost(stage, model, updates=result.updates)
  return {
    "scores": result.scores,
    "updates": result.updates,
    "reason": result.reason,
    "compute": dataclasses.asdict(cost),
  }


def _cost(stage: Stage, model: ModelConfig, *, updates: int) -> compute.Compute:
  """Returns what so many updates of a stage cost."""
  settings = stage.settings
  return compute.training(
    model,
    objectives.method(settings["objective"], settings["options"]),
    updates=updates,
    batch_size=settings["batch_size"],
    length=settings["length"],
    gradients=2 if "rho" in settings else 1,
  )


def _initial_params(run: Run, stage: Stage, model: ModelConfig) -> Params:
  """Returns where training starts.

  1. A stage with an `init` input starts from that stage's model,
  2. moved toward random initialization, as far as it is trained, if the settings
     have noise;
  3. any other starts from fresh weights: stream `init`, or `noise` for the random
     student, which stands in for a model noised to the end.
  """
  seeds, noise = stage.settings["seeds"], stage.settings["noise"]
  if "init" not in stage.inputs:
    name = "init" if "init" in seeds else "noise"
    return programs.initialize(model, run.mesh)(streams.key(seeds[name], name))
  params = load(run, stage.inputs["init"], model)
  if noise is None:
    return params
  key = streams.key(seeds["noise"], "noise")
  trainable = programs.trainable(stage.settings["optimizer"])
  perturb = programs.noise(model, run.mesh, trainable)
  return perturb(params, key, noise["alpha"], noise["beta"])


def _frozen(run: Run, stage: Stage, model: ModelConfig) -> dict[str, Any]:
  """Returns what the objective reads: the roles it names, from the inputs."""
  frozen: dict[str, Any] = {}
  settings = stage.settings
  for name in objectives.method(settings["objective"], settings["options"]).frozen:
    if name == "direction":
      key = streams.key(stage.settings["seeds"]["noise"], "direction")
      direction_D = rmu.random_direction(key, model.width)
      where = sharding.replicated(run.mesh)
      frozen[name] = sharding.put_whole(direction_D, where)
    else:
      params = load(run, stage.inputs[name], model)
      frozen[name] = programs.freeze(model, run.mesh)(params)
  return frozen
