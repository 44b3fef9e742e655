"""Asking and telling: a known optimum is found, a stopped search goes on as it was."""

import math

import optuna
import pytest

from undo_jax.frontier.search_results import Trial, best, front
from undo_jax.plan.search import Range
from undo_jax.running import search_study
from undo_jax.running.search_study import Study, run_trials
from undo_jax.utils import records

FIELDS = {
  "rate": Range(path="a.rate", kind="log_uniform", low=1e-4, high=1e-1),
  "alpha": Range(path="a.alpha", kind="uniform", low=0.0, high=1.0),
  "steps": Range(path="a.steps", kind="integers", low=10, high=100),
  "rows": Range(path="a.rows", kind="choices", choices=(8, 16)),
}


def made_up(number, values):
  """Return a trial whose score is least, 0, at rate 1e-2, but for alpha <= 0.6.

  On the bound of alpha the least is (0.8 - 0.6)^2 = 0.04.
  """
  score = math.log10(values["rate"] / 1e-2) ** 2 + (0.8 - values["alpha"]) ** 2
  lost = values["alpha"] - 0.6
  return Trial(
    number=number,
    values=values,
    state="complete" if lost <= 0 else "infeasible",
    retain=1.0 - values["alpha"],
    forget=0.0,
    worst_forget=score if lost <= 0 else None,
    flops=float(values["steps"]),
    compute=None,
    violations={"retain": lost},
    stages=(),
  )


def study(directory, *, name="made_up", seed=0, **changes):
  settings = {"seed": seed, "startup": 6, "directions": ("minimize",)} | changes
  return Study(directory, name, FIELDS, **settings)


def run(directory, num_trials, evaluate=made_up, **changes):
  return run_trials(
    study(directory, **changes), num_trials, evaluate, lambda t: [t.worst_forget]
  )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return run(tmp_path_factory.mktemp("whole"), 30)


def test_a_known_optimum_within_a_bound_is_found(whole):
  optimum = best(whole, more_is_worse=True)
  assert optimum.values["alpha"] <= 0.6
  assert optimum.worst_forget == pytest.approx(0.04, abs=0.05)
  # As many trials at random, by another sampler of Optuna's own, are worse.
  sampler = optuna.samplers.RandomSampler(seed=0)
  alone = optuna.create_study(sampler=sampler)
  spread = {name: search_study.distribution(each) for name, each in FIELDS.items()}
  drawn = [made_up(n, alone.ask(spread).params) for n in range(30)]
  assert optimum.worst_forget < best(drawn, more_is_worse=True).worst_forget
  # It learns from what was outside of the bound, too, as 40 % are at random.
  late = [trial.state for trial in whole[10:]]
  assert late.count("complete") > 0.6 * len(late)


def test_a_search_that_was_stopped_goes_on_as_it_would_have(whole, tmp_path):
  class Killed(BaseException):
    pass

  def killed(number, values):
    if number in (0, 9):
      raise Killed
    return made_up(number, values)

  first = {"rate": 3e-3, "alpha": 0.5, "steps": 20, "rows": 8}
  with pytest.raises(Killed):
    run(tmp_path, 12, killed, first=first)
  run(tmp_path, 9, first=first)
  with pytest.raises(Killed):
    run(tmp_path, 12, killed, first=first)
  again = run(tmp_path, 12, first=first)
  assert again == run(tmp_path / "whole", 12, first=first)
  assert again[0].values == first
  # What is finished is not run again, and another study of the journal not its own.
  assert run(tmp_path, 12, killed) == again
  assert run(tmp_path, 3, name="other")[0].values != first


def test_another_seed_tries_others(whole, tmp_path):
  assert run(tmp_path, 1, seed=1)[0].values != whole[0].values


def test_what_another_process_runs_is_not_asked_again(tmp_path):
  one, other = study(tmp_path), study(tmp_path)
  first, second = one.ask(2), other.ask(2)
  assert [first.number, second.number] == [0, 1]
  assert one.ask(2) is None
  # A process that is gone no longer holds its trial: the next one has its number.
  second.lease.release()
  again = one.ask(2)
  assert again.number == 1 and again.values == second.values


def test_two_objectives_are_the_trials_that_no_other_beats(tmp_path):
  trials = run_trials(
    study(tmp_path, directions=("minimize", "minimize")),
    15,
    made_up,
    lambda trial: [trial.flops, trial.worst_forget],
  )
  journal = optuna.load_study(
    study_name="made_up",
    storage=optuna.storages.JournalStorage(
      optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    ),
  )
  expected = {each.user_attrs["number"] for each in journal.best_trials}
  assert {*front(trials, more_is_worse=True)} == expected
  assert records.from_json(Trial, records.to_json(trials[0])) == trials[0]
