"""Trained models: pretraining, unlearning, distillation."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import itertools
import logging
from typing import Any

import jax
import numpy as np

from undo_jax import objectives, tasks
from undo_jax.data import pipeline
from undo_jax.distributed import preemption, sharding
from undo_jax.frontier import compute
from undo_jax.plan.stages import TrainStage
from undo_jax.running import noise_programs, programs, students
from undo_jax.running.ablation import evaluation
from undo_jax.running.data import batches_of, check_labels, describe_batch
from undo_jax.running.run import (
  Outcome,
  Run,
  Score,
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
from undo_jax.training.meter import Meter
from undo_jax.training.profiling import Profiler
from undo_jax.training.state import TrainState
from undo_jax.training.step import Step
from undo_jax.training.writers import Progress
from undo_jax.utils import allocator, files, streams
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import Params

LOGGER = logging.getLogger("undo_jax")


def run_trainings(
  trainings: Sequence[tuple[Run, TrainStage, files.Path, str]],
) -> Iterator[tuple[int, Outcome | Exception]]:
  """Train one model, or students of one teacher, which predicts each batch once.

  All students that are equally far take each batch one after the other.

  Args:
    trainings: of each the run, the stage, its directory, its title; of several,
      `students.are_alike` holds.

  Yields:
    Of each, as soon as it ends, its place and its outcome; of students, or the error
    that ended one.
  """
  every = [_Training(*each) for each in trainings]
  for done in sorted({training.done for training in every}):
    for training, result in _train([each for each in every if each.done == done]):
      yield every.index(training), training.outcome_of(result)


def _train(
  trainings: Sequence["_Training"],
) -> Iterator[tuple["_Training", loop.Result | Exception]]:
  """Train models that are equally far; yield each as it ends."""
  first = trainings[0]
  run, stage, done = first.run, first.stage, first.done
  names, _ = problems_of(run)
  check_stop_rules(run, names)
  check_labels(run)
  with contextlib.ExitStack() as stack:
    for training in trainings:
      stack.callback(training.close)
    going = [training.begin() for training in trainings]
    allocator.return_freed_memory()
    stack.enter_context(preemption.deferred())
    data = pipeline.iterator(batches_of(run, stage), start=done)
    if students.share(run, stage):
      put = students.predicting(run, stage, _frozen(run, stage))
      meters = [training.meter for training in trainings]
      ended = loop.train_together(going, data, put=put, meters=meters)
    else:
      put = _putting(run, stage)
      ended = iter([(0, loop.train(going[0], data, put=put, meter=first.meter))])
    for index, result in ended:
      trainings[index].close()
      yield trainings[index], result


class _Training:
  """The training of one model: its own part where several go together."""

  meter: Meter
  score: Score

  def __init__(self, run: Run, stage: TrainStage, directory: files.Path, title: str):
    self.run, self.stage, self.directory, self.title = run, stage, directory, title
    self.checkpoints = checkpoints_of(run, directory)
    self.start = self.checkpoints.latest()
    self.done = self.start or 0  # Updates, at the start.
    self._opened = contextlib.ExitStack()

  def close(self) -> None:
    """Close what is written to."""
    self._opened.close()

  def begin(self) -> loop.Training:
    """Return the training from its newest checkpoint, or from the first update."""
    run, stage, stack = self.run, self.stage, self._opened
    stack.callback(self.checkpoints.close)
    program = programs.training_of(stage, run.mesh)
    if self.start is None:
      state = _masked(run, stage, program.create(_initial_params(run, stage)))
    else:
      LOGGER.info("%s: resuming after update %d", self.title, self.start)
      state = loop.restore(self.checkpoints, self.start, program.abstract)
    mirror = files.Mirror(self.directory)
    writer = writer_of(run, mirror, self.done)
    stack.callback(writer.close)
    profiler = Profiler(mirror.local / "profile", run.profile_steps)
    stack.callback(profiler.close)
    total = stage.optimizer.num_steps
    progress = Progress(self.title, total=total, initial=self.done)
    stack.callback(progress.close)
    self.meter = meter_of(run, cost(stage, updates=1), stage.model.dtype)
    self.score = scorer_of(run, stage, problems_of(run)[0])
    problems = validation_of(run) or problems_of(run)[1]
    training = loop.begin(
      _step(run, stage, program, self.done),
      state,
      {} if students.share(run, stage) else _frozen(run, stage),
      streams.key(stage.seeds[stage.order_stream], stage.name),
      schedule=_schedule(run, stage),
      evaluate=evaluation(run, stage, self.score, problems),
      should_stop=stop_rule(run, stage),
      checkpoints=self.checkpoints,
      writer=writer,
      progress=progress,
      meter=self.meter,
      profiler=profiler,
      describe_batch=functools.partial(describe_batch, run, stage),
      several=_several(run, program) if _is_several(run, stage) else None,
    )
    return self._unless_lost(training)

  def _unless_lost(self, training: loop.Training) -> loop.Training:
    """Let others go on where another process has taken this training over.

    It may have cleared away what was being written.
    """
    try:
      return (yield from training)
    except (FloatingPointError, LeaseLost, preemption.Preempted):
      raise
    except Exception as error:
      if jax.process_count() > 1 or self.run.may_write():
        raise
      raise LeaseLost(self.title) from error

  def outcome_of(self, result: loop.Result | Exception) -> Outcome | Exception:
    """Return the outcome."""
    if isinstance(result, Exception):
      return result
    run, stage = self.run, self.stage
    test = evaluation(run, stage, self.score, problems_of(run)[1])
    return {
      **_scores(run, stage, result, test),
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


def _is_several(run: Run, stage: TrainStage) -> bool:
  """Whether several updates are dispatched together.

  Updates between which noise or a trace is due are dispatched one by one.
  """
  is_due = stage.noise_again is not None or run.profile_steps is not None
  return run.updates_at_once > 1 and not is_due


def _several(run: Run, program: programs.Training) -> loop.Several:
  """Return how several updates are dispatched together."""
  return loop.Several(run.updates_at_once, program.steps)


def _putting(run: Run, stage: TrainStage) -> Callable[[Sequence[Any]], Any]:
  """Return what places the batches of a dispatch on the devices."""
  put = functools.partial(sharding.put_batch, mesh=run.mesh)
  if not _is_several(run, stage):
    return lambda batches: put(batches[0])
  at_once = run.updates_at_once

  def put_several(batches):
    # What is beyond is not read, and keeps the program the same.
    full = [*batches, *[batches[-1]] * (at_once - len(batches))]
    return put(jax.tree.map(lambda *x: np.stack(x), *full), leading=1)

  return put_several


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
