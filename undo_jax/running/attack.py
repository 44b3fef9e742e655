"""The relearning attack on one model."""

import contextlib
import dataclasses
import logging

import jax
import numpy as np

from undo_jax import objectives, tasks
from undo_jax.data import pipeline
from undo_jax.distributed import preemption, sharding
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import compute
from undo_jax.frontier.robustness import worst_case
from undo_jax.plan.stages import AttackStage
from undo_jax.running import programs
from undo_jax.running.data import batches_of
from undo_jax.running.run import (
  Outcome,
  Run,
  Scores,
  checkpoints_of,
  load,
  meter_of,
  problems_of,
  rounded,
  scorer_of,
  validation_of,
  writer_of,
)
from undo_jax.training.checkpointing import Checkpoints
from undo_jax.training.state import TrainState
from undo_jax.training.writers import Progress
from undo_jax.utils import allocator, files, streams
from undo_jax.utils.types import ConfigError, Params, Problems

LOGGER = logging.getLogger("undo_jax")
History = dict[str, np.ndarray]  # Scores [E, R] by name, E evaluations.


def run_attack(
  run: Run, stage: AttackStage, directory: files.Path, title: str
) -> Outcome:
  """Relearns the forget data from one model at every learning rate at once.

  A model is noised first if the stage says so, and its scores are those before the
  attack. What a checkpoint holds is what the members train.
  """
  names, problems = _scored(run, stage)
  program = programs.attack_of(
    stage, run.mesh, names, run.evaluation_rows, run.replicas_at_once
  )
  every, total = stage.evaluate_every, stage.optimizer.num_steps
  checkpoints = checkpoints_of(run, directory)
  params = _attacked(run, stage)
  before = scorer_of(run, stage, names)(params, problems)
  done, state, history = _start(stage, program, checkpoints, params, before)
  if done:
    LOGGER.info("%s: resuming after update %d", title, done)
  frozen = {"base": params} if program.reads_base else ()
  del params
  allocator.return_freed_memory()
  key = streams.key(stage.seeds[stage.stream], "attack")
  progress = Progress(title, total=total, initial=done)
  rows = pipeline.iterator(batches_of(run, stage), start=done)
  writer = writer_of(run, files.Mirror(directory), done)
  meter = meter_of(run, cost(stage, members=len(stage.learning_rates)))
  with preemption.deferred(), contextlib.closing(writer):
    while done < total:
      first = done // every
      count = min(stage.evaluations_per_call, total // every - first)
      with meter.input():
        chunk = _stack([next(rows) for _ in range(count * every)], (count, every))
        chunk = sharding.put_batch(chunk, run.mesh, leading=2)
      state, scores = program.program(state, frozen, problems, chunk, key)
      for name, values in jax.device_get(scores).items():
        history[name][first : first + count] = values
      done += count * every
      worst = float(
        _worst(stage.task, history["forget"][first + count - 1][:, None])[0]
      )
      measured = meter.row(updates=count * every)
      writer.write(done, "attack", worst_forget=worst, **measured)
      _save(checkpoints, done, state, history)
      progress.note(f"worst forget {worst:.2f}")
      progress.update(count * every)
      preemption.check()
      meter.restart()
  progress.close()
  checkpoints.close()
  return _outcome(stage, before, history)


def _scored(run: Run, stage: AttackStage) -> tuple[tuple[str, ...], Problems]:
  """Returns the names of the scores by task and the problems that are scored."""
  if stage.scored_items == "test":
    return problems_of(run)
  selection = validation_of(run)
  assert selection is not None, "the config's checks ask for validation items"
  return problems_of(run)[0], selection


def _outcome(stage: AttackStage, before: dict[str, float], history: History) -> Outcome:
  """Returns the scores [R][S] of an attack, those before it first."""
  num_rates = len(stage.learning_rates)
  scores = {
    name: np.vstack([np.full(num_rates, before[name]), values]).T
    for name, values in history.items()
  }
  num_steps = scores["forget"].shape[1]
  return {
    "learning_rates": list(stage.learning_rates),
    "cost": dataclasses.asdict(cost(stage, members=1)),  # Of an update of one.
    "steps": [stage.evaluate_every * i for i in range(num_steps)],
    "worst_forget": rounded(_worst(stage.task, scores["forget"])),
    "scores": {name: rounded(values) for name, values in scores.items()},
  }


def _start(
  stage: AttackStage,
  program: programs.Attack,
  checkpoints: Checkpoints,
  params: Params,
  before: Scores,
) -> tuple[int, TrainState, History]:
  """Returns the updates done, the population and its scores so far."""
  rates = np.asarray(stage.learning_rates, np.float32)
  size = stage.optimizer.num_steps // stage.evaluate_every, len(rates)
  history = {name: np.zeros(size, np.float32) for name in before}
  done = checkpoints.latest() or 0
  if done:
    return done, *_restore(checkpoints, done, program.abstract, history)
  key = streams.key(stage.seeds[stage.stream], "adapters")
  return 0, program.create(params, jax.numpy.asarray(rates), key), history


def cost(stage: AttackStage, *, members: int) -> compute.Compute:
  """Returns what an update of so many members costs, evaluations left out."""
  return compute.training(
    stage.model,
    objectives.method("cross_entropy", {}),
    updates=1,
    batch_size=stage.batch_size * members,
    length=stage.length,
  )


def _attacked(run: Run, stage: AttackStage) -> Params:
  """Returns the model that is attacked, noised first if the stage says so."""
  params = load(run, stage.target, stage.model)
  if stage.noise is None:
    return params
  key = streams.key(stage.seeds[stage.stream], "perturb")
  rules = stage.noise.rules
  noise = programs.noise(stage.model, run.mesh, stage.trainable, rules)
  return noise(params, key, stage.noise.alpha, stage.noise.beta)


def _worst(task: str, forget_RxS: np.ndarray) -> np.ndarray:
  """Returns the worst forget scores [S] over the learning rates."""
  metric = tasks.get(task).metrics["forget"]
  try:
    return worst_case(forget_RxS, higher_is_worse=higher_is_worse(metric))[0]
  except ValueError as error:  # All scores of a step are NaN.
    raise ConfigError(
      f"config.attacks.*.learning_rates: expected one at which relearning stays "
      f"finite, but {error}; add a lower one"
    ) from None


def _save(checkpoints: Checkpoints, done: int, state: TrainState, history: History):
  rest = {"step": state.step, "opt_state": state.opt_state, "history": history}
  checkpoints.save(done, state.params, rest)


def _restore(
  checkpoints: Checkpoints, done: int, abstract: TrainState, history: History
) -> tuple[TrainState, History]:
  rest = {"step": abstract.step, "opt_state": abstract.opt_state, "history": history}
  params, rest = checkpoints.restore(done, abstract.params, rest)
  # In the order of the scores, which a checkpoint does not keep.
  history = {name: np.array(rest["history"][name]) for name in history}
  return abstract._replace(
    params=params, step=rest["step"], opt_state=rest["opt_state"]
  ), history


def _stack(batches, leading):
  return jax.tree.map(lambda *x: np.stack(x).reshape(*leading, *x[0].shape), *batches)
