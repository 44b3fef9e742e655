"""Trained models: pretraining, unlearning, distillation."""

from collections.abc import Callable
import contextlib
import dataclasses
import functools
import itertools
import logging

import jax
import numpy as np

from undo_jax import objectives, tasks
from undo_jax.data import pipeline
from undo_jax.distributed import preemption, sharding
from undo_jax.frontier import compute
from undo_jax.plan.stages import TrainStage
from undo_jax.running import noise_programs, programs
from undo_jax.running.ablation import evaluation
from undo_jax.running.data import batches_of, check_labels, describe_batch
from undo_jax.running.run import (
  Outcome,
  Run,
  Scores,
  checkpoints_of,
  load,
  meter_of,
  problems_of,
  scorer_of,
  validation_of,
  writer_of,
)
from undo_jax.running.saliency import load_fisher, load_source
from undo_jax.running.stopping import check_stop_rules, stop_rule
from undo_jax.training import loop
from undo_jax.training.profiling import Profiler
from undo_jax.training.state import TrainState
from undo_jax.training.step import Step
from undo_jax.training.writers import Progress
from undo_jax.utils import allocator, files, streams
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")


def run_training(
  run: Run, stage: TrainStage, directory: files.Path, title: str
) -> Outcome:
  """Train one model: pretraining, unlearning and distillation alike."""
  program = programs.training_of(stage, run.mesh)
  batches = batches_of(run, stage)
  names, problems = problems_of(run)
  check_stop_rules(run, names)
  check_labels(run)
  selection = validation_of(run)
  score = scorer_of(run, stage, names)
  checkpoints = checkpoints_of(run, directory)
  start = checkpoints.latest()
  if start is None:
    state = _masked(run, stage, program.create(_initial_params(run, stage)))
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
      _step(run, stage, program, done),
      state,
      frozen,
      pipeline.iterator(batches, start=done),
      streams.key(stage.seeds[stage.order_stream], stage.name),
      schedule=_schedule(run, stage),
      put=functools.partial(sharding.put_batch, mesh=run.mesh),
      evaluate=evaluation(run, stage, score, selection or problems),
      should_stop=stop_rule(run, stage),
      checkpoints=checkpoints,
      writer=writer,
      progress=progress,
      meter=meter_of(run, cost(stage, updates=1)),
      profiler=profiler,
      describe_batch=functools.partial(describe_batch, run, stage),
      several=_several(run, stage, program),
    )
  return {
    **_scores(run, stage, result, evaluation(run, stage, score, problems)),
    "updates": result.updates,
    "reason": result.reason,
    "compute": dataclasses.asdict(cost(stage, updates=result.updates)),
  }


def _scores(
  run: Run, stage: TrainStage, result: loop.Result, test: Callable[[Params], Scores]
) -> Outcome:
  """Return the scores of the trained model; the loop's are of validation, if any."""
  if tasks.get(stage.task).validation is None:
    return {"scores": result.scores}
  return {"scores": test(result.state.params), "validation": result.scores}


def _schedule(run: Run, stage: TrainStage) -> loop.Schedule:
  optimizer = stage.optimizer
  return loop.Schedule(
    num_steps=optimizer.num_steps,
    decay_steps=optimizer.decay_steps if optimizer.decay_on_recovery else None,
    checkpoint_every=run.checkpoint_every,
    evaluate_every=stage.stop and stage.stop.evaluate_every,
    max_loss=run.max_loss,
  )


def cost(stage: TrainStage, *, updates: int) -> compute.Compute:
  """Return the cost of some updates of a stage.

  If a teacher's predictions are kept, its pass counts for their stage.
  """
  method = objectives.method(stage.objective, stage.options)
  if stage.predictions is not None:
    method = dataclasses.replace(method, reads=())
  return compute.training(
    stage.model,
    method,
    updates=updates,
    batch_size=stage.batch_size,
    length=stage.length,
    gradients=stage.gradients,
  )


def _initial_params(run: Run, stage: TrainStage) -> Params:
  """Return where training starts.

  Another stage's model, moved toward random initialization as far as it is trained if
  the stage has noise; or fresh weights.
  """
  if stage.init is None:
    key = streams.key(stage.seeds[stage.init_stream], stage.init_stream)
    return programs.initialize(stage.model, run.mesh)(key)
  params = load(run, stage.init, stage.model)
  return params if stage.noise is None else _noised(run, stage, params, updates=0)


def _noised(run: Run, stage: TrainStage, params: Params, *, updates: int) -> Params:
  """Return parameters noised as the stage says after some updates."""
  assert stage.noise is not None, "a stage without noise is never noised"
  first = streams.key(stage.seeds["noise"], "noise")
  key = jax.random.fold_in(first, updates) if updates else first
  fisher = None if stage.saliency is None else load_fisher(run, stage.saliency)
  noise = stage.noise
  perturb = noise_programs.noise(
    stage.model, run.mesh, stage.trainable, noise.rules, stage.noise_shape, noise.std
  )
  return perturb(params, key, noise.alpha, noise.beta, fisher, first)


def _masked(run: Run, stage: TrainStage, state: TrainState) -> TrainState:
  """Return a fresh state that trains the weights which the stage chooses."""
  if stage.trained is None:
    return state
  name = stage.trained_saliency
  fisher = source = None
  if name is not None:
    fisher = load_fisher(run, name)
    source = load_source(run, name) if stage.trained.by == "attribution" else None
  key = streams.key(stage.seeds["noise"], "trained")
  mask = noise_programs.mask(stage.model, run.mesh, stage.trained)(key, fisher, source)
  return state._replace(opt_state=state.opt_state._replace(mask=mask))


def _step(run: Run, stage: TrainStage, program: programs.Training, done: int) -> Step:
  """Return the stage's step; where noise is due again, it comes before the update.

  A checkpoint at that update is not noised yet; the optimizer's state stays.
  """
  again, numbers = stage.noise_again, itertools.count(done)
  if again is None:
    return program.step

  def step(state, frozen, batch, key):
    updates = next(numbers)
    if again.is_due(updates):
      params = _noised(run, stage, state.params, updates=updates)
      state = state._replace(params=params)
    return program.step(state, frozen, batch, key)

  return step


def _several(
  run: Run, stage: TrainStage, program: programs.Training
) -> loop.Several | None:
  """Return how several updates are dispatched together; None: one by one.

  Updates between which noise or a trace is due are also dispatched one by one.
  """
  at_once = run.updates_at_once
  if at_once == 1 or stage.noise_again is not None or run.profile_steps is not None:
    return None

  def put(batches):
    # What is beyond is not read, and keeps the program the same.
    full = [*batches, *[batches[-1]] * (at_once - len(batches))]
    stacked = jax.tree.map(lambda *x: np.stack(x), *full)
    return sharding.put_batch(stacked, run.mesh, leading=1)

  return loop.Several(at_once, program.steps, put)


def _frozen(run: Run, stage: TrainStage) -> dict[str, Params]:
  """Return what the objective reads: models by role, and what is drawn."""
  method = objectives.method(stage.objective, stage.options)
  frozen: dict[str, Params] = {}
  for role, model in stage.frozen.items():
    freeze = programs.freeze(stage.model, run.mesh)
    frozen[role] = freeze(load(run, model, stage.model))
  for role, draw in method.derived.items():
    array = draw(streams.key(stage.seeds["noise"], role), stage.model)
    frozen[role] = sharding.put_whole(array, sharding.replicated(run.mesh))
  return frozen
