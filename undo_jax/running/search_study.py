"""The trials of one model's search, proposed by Optuna and reported to it.

Several processes may add trials to the same journal, each under a lease. A trial whose
process is gone is proposed again. The sampler of a trial is seeded by the trial's
number,
and sees all that are finished, so in one process a search that was stopped goes on as
if it had not been; what several processes try depends on which is faster.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import pathlib
import time
from typing import Literal

import optuna
from optuna.distributions import (
  BaseDistribution,
  CategoricalDistribution,
  FloatDistribution,
  IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from undo_jax.distributed import preemption
from undo_jax.frontier.search_results import Trial
from undo_jax.plan.search import Range, Values
from undo_jax.utils import records, streams
from undo_jax.utils.leases import Lease

POLL_SECONDS = 0.2
Direction = Literal["minimize", "maximize"]
# (number, values) -> what came of it.
Evaluate = Callable[[int, Values], Trial]
# What is made small or large of a trial within its bounds.
Objectives = Callable[[Trial], Sequence[float]]
_NUMBER, _TRIAL = "number", "trial"  # Of user attributes.
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclasses.dataclass(frozen=True)
class Asked:
  """A trial that this process has to run."""

  number: int
  values: Values
  trial: optuna.Trial
  lease: Lease


class Study:
  """The trials of one model in the journal of a directory."""

  def __init__(
    self,
    directory: pathlib.Path,
    name: str,
    fields: Mapping[str, Range],
    *,
    seed: int,
    startup: int,
    directions: Sequence[Direction],
    first: Values | None = None,
  ):
    """Open a study, which is made if the journal has none of its name.

    Args:
      directory: of the journal and the leases.
      name: of the study; says what it searches.
      fields: the ranges.
      seed: of the sampler.
      startup: trials at random before it learns from others.
      directions: of the objectives.
      first: the values of trial 0; None: they are drawn.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directory.mkdir(parents=True, exist_ok=True)
    self._directory, self._name = directory, name
    self._seed, self._startup, self._first = seed, startup, first
    self._distributions = {n: distribution(each) for n, each in fields.items()}
    self._asking = Lease(directory / "leases" / "asking")
    self._study = optuna.create_study(
      storage=JournalStorage(JournalFileBackend(str(directory / "journal.log"))),
      study_name=name,
      directions=list(directions),
      load_if_exists=True,
    )

  def trials(self) -> list[Trial]:
    """Return the finished trials, in their order."""
    finished = [each for each in self._study.trials if each.state in _DONE]
    read = [records.from_json(Trial, each.user_attrs[_TRIAL]) for each in finished]
    return sorted(read, key=lambda trial: trial.number)

  def ask(self, num_trials: int) -> Asked | None:
    """Return a trial to run; None if enough are finished or run by others."""
    while not self._asking.take():
      preemption.check()
      time.sleep(POLL_SECONDS)
    try:
      self._fail_lost()
      taken = {each.user_attrs[_NUMBER] for each in self._counted()}
      number = next(n for n in range(len(taken) + 1) if n not in taken)
      return self._ask(number) if number < num_trials else None
    finally:
      self._asking.release()

  def tell(self, proposal: Asked, trial: Trial, objectives: Sequence[float]) -> None:
    """Report the result of a trial; one outside of the bounds has no objectives."""
    proposal.trial.set_user_attr(_TRIAL, records.to_json(trial))
    for bound, violation in trial.violations.items():
      proposal.trial.set_constraint(bound, violation)
    if trial.state == "complete":
      self._study.tell(proposal.trial, list(objectives))
    else:
      self._study.tell(proposal.trial, state=TrialState.PRUNED)

  def _counted(self) -> list[FrozenTrial]:
    """Return the trials that are finished or run."""
    states = (*_DONE, TrialState.RUNNING)
    return self._study.get_trials(deepcopy=False, states=states)

  def _fail_lost(self) -> None:
    """Give up the trials whose process is gone; the caller holds the lease."""
    for each in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
      number = each.user_attrs.get(_NUMBER)
      lease = None if number is None else self._lease(number)
      if lease is None or lease.take():
        self._study.tell(each.number, state=TrialState.FAIL)
        if lease is not None:
          lease.release()

  def _ask(self, number: int) -> Asked:
    lease = self._lease(number)
    lease.take()
    self._study.sampler = optuna.samplers.TPESampler(
      n_startup_trials=self._startup,
      multivariate=True,
      seed=streams.integer(self._seed, f"search {number}"),
    )
    waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if number == 0 and self._first is not None and not waiting:
      self._study.enqueue_trial(self._first)
    trial = self._study.ask(self._distributions)
    trial.set_user_attr(_NUMBER, number)
    return Asked(number, dict(trial.params), trial, lease)

  def _lease(self, number: int) -> Lease:
    return Lease(self._directory / "leases" / f"{self._name}-{number}")


def distribution(field: Range) -> BaseDistribution:
  """Return a range as a distribution of Optuna."""
  if field.kind == "choices":
    return CategoricalDistribution(field.choices)
  low, high = field.ends
  assert isinstance(low, int | float) and isinstance(high, int | float)
  if field.kind == "integers":
    return IntDistribution(int(low), int(high))
  return FloatDistribution(low, high, log=field.kind == "log_uniform")


def run_trials(
  study: Study, num_trials: int, evaluate: Evaluate, objectives: Objectives
) -> list[Trial]:
  """Run the trials that are left, or wait for others to run them; return all.

  Args:
    study: see Study.
    num_trials: in all.
    evaluate: runs a trial.
    objectives: of a trial within its bounds.
  """
  while len(study.trials()) < num_trials:
    preemption.check()
    proposal = study.ask(num_trials)
    if proposal is None:
      time.sleep(POLL_SECONDS)
      continue
    try:
      trial = evaluate(proposal.number, proposal.values)
      study.tell(
        proposal, trial, objectives(trial) if trial.state == "complete" else ()
      )
    finally:
      proposal.lease.release()
  return study.trials()[:num_trials]
