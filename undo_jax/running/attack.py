"""The relearning attack on one model, or on several as one program.

Its members, one for each learning rate, train in groups of `replicas_at_once`. A group
is trained to its end before the next one begins. What is done of an attack is counted
in updates of a group.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import logging

import jax
import numpy as np

from undo_jax import attacks as adversaries
from undo_jax import objectives, tasks
from undo_jax.distributed import preemption, sharding
from undo_jax.evaluation.metrics import higher_is_worse
from undo_jax.frontier import compute
from undo_jax.frontier.robustness import worst_case
from undo_jax.plan.stages import AttackStage
from undo_jax.running import noise_programs, programs
from undo_jax.running.data import attack_batches
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
from undo_jax.training.checkpointing import REST, Checkpoints
from undo_jax.training.state import TrainState
from undo_jax.training.writers import Progress, Writer
from undo_jax.utils import allocator, files, streams
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import ConfigError, Frozen, Params, Problems

LOGGER = logging.getLogger("undo_jax")
History = dict[str, np.ndarray]  # Scores [E, R] by name, E evaluations.


def run_attacks(
  attacks: Sequence[tuple[Run, AttackStage, files.Path, str]],
) -> list[Outcome | Exception]:
  """Relearn the forget data from models at every learning rate.

  A model is noised first if the stage says so, and its scores are those before the
  attack. A checkpoint holds what the members train, and the optimizer's state of one
  group. All attacks that are equally far run as one program.

  Args:
    attacks: for each the run, the stage, its directory, its title; the stages differ
      only in the model.

  Returns:
    For each its outcome, or the error that ended it while the others went on: it has
    diverged, or its lease is lost.
  """
  every = [_Attack(*each) for each in attacks]
  for done in sorted({attack.done for attack in every}):
    _run([attack for attack in every if attack.done == done])
  return [attack.failure or attack.outcome for attack in every]


class _Attack:
  """The attack on one model: its own part where several run as one program."""

  state: TrainState
  frozen: Frozen
  before: Scores
  history: History
  outcome: Outcome
  writer: Writer

  def __init__(self, run: Run, stage: AttackStage, directory: files.Path, title: str):
    self.run, self.stage, self.directory, self.title = run, stage, directory, title
    self.checkpoints = checkpoints_of(run, directory)
    self.done = self.checkpoints.latest() or 0  # Updates of a group, at the start.
    self.taken = self.done  # At the last call.
    self.failure: Exception | None = None
    self.worst = float("nan")  # The last worst forget score.

  def start(
    self, program: programs.Attack, names: tuple[str, ...], problems: Problems
  ) -> None:
    """Make the population, or read its checkpoint, and open the writer."""
    if self.done:
      self._check_groups(len(program.abstract.step))
    params = _attacked(self.run, self.stage)
    self.before = scorer_of(self.run, self.stage, names)(params, problems)
    self.state, self.history = _start(
      self.stage, program, self.checkpoints, self.done, params, self.before
    )
    if self.done:
      LOGGER.info("%s: resuming after update %d", self.title, self.done)
    self.frozen = {"base": params} if program.reads_base else ()
    self.writer = writer_of(self.run, files.Mirror(self.directory), self.done)

  def _check_groups(self, size: int) -> None:
    """Raise ConfigError if the attack has begun with groups of another size."""
    (begun,) = self.checkpoints.saved(self.done, REST)["step"].shape
    if begun != size:
      is_all = begun == len(self.stage.learning_rates)
      raise ConfigError(
        f"config.replicas_at_once: expected {None if is_all else begun}, with which "
        f"{self.title} has begun, got {size} at once; set it so until that is "
        f"finished, or delete {self.directory}"
      )

  def begin(self, program: programs.Attack, group: int) -> None:
    """Give a group, not the first, its optimizer's state in place of the last one's."""
    params, self.state = self.state.params, self.state._replace(opt_state=())
    self.state = program.begin(params, _rates(self.stage), jax.numpy.int32(group))

  def take(
    self, done: int, state: TrainState, scores: History, measured: dict[str, float]
  ) -> None:
    """Take the results of some updates, and note them unless the attack has failed."""
    self.state, self.taken = state, done
    if self.failure is None:
      self._guarded(lambda: self._note(done, scores, measured))

  def _note(self, done: int, scores: History, measured: dict[str, float]) -> None:
    steps, every = self.stage.optimizer.num_steps, self.stage.evaluate_every
    num_groups = len(self.stage.learning_rates) // len(scores["forget"][0])
    group = (done - 1) // steps
    last = (done - group * steps) // every
    for name, values in scores.items():
      self.history[name][last - len(values) : last, group::num_groups] = values
    self.worst = self._worst_so_far(last - 1, group, num_groups)
    worst = rounded(self.worst)
    self.writer.write(done, "attack", worst_forget=worst, **measured)

  def _worst_so_far(self, evaluation: int, group: int, num_groups: int) -> float:
    """Return the worst score of an evaluation over the groups up to one."""
    forget_R = self.history["forget"][evaluation]
    forget_R = forget_R[np.arange(len(forget_R)) % num_groups <= group]
    if group + 1 < num_groups and not np.any(np.isfinite(forget_R)):
      return float("nan")  # The rates of another group may be lower.
    return float(_worst(self.stage.task, forget_R[:, None])[0])

  def save(self) -> None:
    """Save what was taken last, unless it is saved or the attack has failed."""
    if self.failure is None:
      self._guarded(
        lambda: _save(self.checkpoints, self.taken, self.state, self.history)
      )

  def finish_saving(self) -> None:
    """Return when what was taken last is saved, unless the attack has failed."""
    self.save()
    if self.failure is None:
      self._guarded(self.checkpoints.finish)

  def finish(self) -> None:
    """Make the outcome unless the attack has failed, and give the memory back."""
    self.finish_saving()
    if self.failure is None:
      self._guarded(self._set_outcome)
    del self.state, self.frozen

  def _set_outcome(self) -> None:
    self.outcome = _outcome(self.stage, self.before, self.history)

  def _guarded(self, fn: Callable[[], None]) -> None:
    """Keep the error of this attack, so that the others go on."""
    try:
      fn()
    except (ConfigError, LeaseLost) as error:
      self.failure = error
    except Exception as error:
      # Whoever has the stage now may have cleared away what was being written.
      if jax.process_count() > 1 or self.run.may_write():
        raise
      self.failure = error

  def close(self) -> None:
    """Close what it writes to."""
    self.writer.close()
    self.checkpoints.close()


def _run(attacks: Sequence[_Attack]) -> None:
  """Run attacks that are equally far to their end as one program."""
  run, stage, done = attacks[0].run, attacks[0].stage, attacks[0].done
  names, problems = _scored(run, stage)
  rows_at_once, at_once = run.evaluation_rows, run.replicas_at_once
  program = programs.attack_of(
    stage, run.mesh, names, rows_at_once, at_once, len(attacks)
  )
  every, steps = stage.evaluate_every, stage.optimizer.num_steps
  size = at_once or len(stage.learning_rates)
  num_groups = len(stage.learning_rates) // size
  total, calls = num_groups * steps, 0
  key = streams.key(stage.seeds[stage.stream], "attack")
  rows = attack_batches(run, stage, done % steps)
  with contextlib.ExitStack() as stack:
    for attack in attacks:
      attack.start(program, names, problems)
      stack.callback(attack.close)
    allocator.return_freed_memory()
    progress = Progress(_title(attacks), total=total, initial=done)
    stack.callback(progress.close)
    stack.enter_context(preemption.deferred())
    members = len(attacks) * size
    meter = meter_of(run, cost(stage, members=members), stage.model.dtype)
    while done < total and not all(attack.failure for attack in attacks):
      group, before = divmod(done, steps)
      if done and not before:
        rows = attack_batches(run, stage, 0)  # All groups see the same.
        for attack in attacks:
          attack.begin(program, group)
        meter.restart()
      count = min(stage.evaluations_per_call, (steps - before) // every)
      with meter.input():
        chunk = _stack([next(rows) for _ in range(count * every)], (count, every))
        chunk = sharding.put_batch(chunk, run.mesh, leading=2)
      states = tuple(attack.state for attack in attacks)
      frozen = tuple(attack.frozen for attack in attacks)
      states, scores = program.program(
        states, frozen, problems, chunk, key, jax.numpy.int32(group)
      )
      scores = jax.device_get(scores)
      done += count * every
      measured = meter.row(updates=count * every)
      calls += 1
      for number, attack in enumerate(attacks):
        attack.take(done, states[number], scores[number], measured)
        if calls % num_groups == 0:  # As often as if all members were one group.
          attack.save()
      del states  # The attacks have them, and give them up for the next group's.
      worst = ", ".join(f"{attack.worst:.2f}" for attack in attacks)
      progress.note(f"worst forget {worst}")
      progress.update(count * every)
      preemption.check(lambda: [attack.finish_saving() for attack in attacks])
      meter.restart()
    for attack in attacks:
      attack.finish()


def _title(attacks: Sequence[_Attack]) -> str:
  """Return the title of several attacks together."""
  title, *others = (attack.title for attack in attacks)
  if others:
    LOGGER.info("%s: runs as one program with %s", title, ", ".join(others))
  return f"{title} and {len(others)} more" if others else title


def _scored(run: Run, stage: AttackStage) -> tuple[tuple[str, ...], Problems]:
  """Return the names of the scores by task and the problems that are scored."""
  if stage.scored_items == "test":
    return problems_of(run)
  selection = validation_of(run)
  assert selection is not None, "the config's checks ask for validation items"
  return problems_of(run)[0], selection


def _outcome(stage: AttackStage, before: dict[str, float], history: History) -> Outcome:
  """Return the scores [R][S] of an attack, those before it first."""
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
  done: int,
  params: Params,
  before: Scores,
) -> tuple[TrainState, History]:
  """Return the population and its scores so far."""
  size = stage.optimizer.num_steps // stage.evaluate_every, len(stage.learning_rates)
  history = {name: np.zeros(size, np.float32) for name in before}
  if done:
    return _restore(checkpoints, done, program.abstract, history)
  key = streams.key(stage.seeds[stage.stream], "adapters")
  return program.create(params, _rates(stage), key), history


def _rates(stage: AttackStage) -> jax.Array:
  return jax.numpy.asarray(stage.learning_rates, jax.numpy.float32)


def cost(stage: AttackStage, *, members: int) -> compute.Compute:
  """Return the cost of an update of some members, without evaluations."""
  added = adversaries.REGISTRY.get(stage.adversary).added_tokens(stage.options)
  return compute.training(
    stage.model,
    objectives.method("cross_entropy", {}),
    updates=1,
    batch_size=stage.batch_size * members,
    length=stage.length + added,
  )


def _attacked(run: Run, stage: AttackStage) -> Params:
  """Return the model that is attacked, noised first if the stage says so."""
  params = load(run, stage.target, stage.model)
  if stage.noise is None:
    return params
  key = streams.key(stage.seeds[stage.stream], "perturb")
  noise = stage.noise
  perturb = noise_programs.noise(
    stage.model, run.mesh, stage.trainable, noise.rules, std=noise.std
  )
  return perturb(params, key, noise.alpha, noise.beta)


def _worst(task: str, forget_RxS: np.ndarray) -> np.ndarray:
  """Return the worst forget scores [S] over the learning rates."""
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
