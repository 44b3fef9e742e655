"""A search for hyper-parameters, whose trials are stages of its workdir.

    WORKDIR/search/config.json command.txt environment.json journal.log leases/
        search.json
    WORKDIR/stages/    those of every trial, the base and the data shared by all

A trial is the config with other values of one model, that model and the search's attack
on it alone, under the search's seeds. Models are searched after those that they are
made from, whose chosen values then hold.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import logging
import math
import os
import pathlib
from typing import Any

import jax

from undo_jax import config as builders
from undo_jax.frontier import attack_results, reading, search_results
from undo_jax.frontier.search_results import SearchedModel, SearchResults, Trial
from undo_jax.plan import lineages, stages
from undo_jax.plan.config import plain
from undo_jax.plan.search import Values
from undo_jax.plan.stages import AttackStage, TrainStage
from undo_jax.running import divergence as divergences
from undo_jax.running import run_shared, runs
from undo_jax.running.run import Outcome, Run
from undo_jax.running.search_space import Space, attacks_on, bound, spaces
from undo_jax.running.search_study import Direction, Study, run_trials
from undo_jax.utils import environment, files
from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")
_DIVERGED = 1.0  # How far such a trial is outside: no retain score is farther.


def run_search(
  config: builders.Config, workdir: str | os.PathLike[str]
) -> SearchResults:
  """Run what is left of a config's search and write search.json.

  Raises:
    ConfigError: if the config declares none, or something in it cannot work.
  """
  root = files.path(workdir)
  if not isinstance(root, pathlib.Path) or jax.process_count() > 1:
    raise ConfigError(
      "--workdir: expected a directory of this machine's disks and one process, since "
      "a search keeps a journal; start several searches on one workdir instead"
    )
  models: dict[str, SearchedModel] = {}
  searched = spaces(config)
  files.update_json(root / "search" / "config.json", plain(config))
  environment.record(root / "search")
  for space in searched:
    for name, model in models.items():
      space.choose(name, model)
    models[space.name] = _search(space, root)
  space = searched[0]
  results = SearchResults(
    schema=1,
    search=space.search,
    more_is_worse=space.more_is_worse,
    base_retain=_base_retain(space, root),
    base_flops=_base_flops(space, root),
    filtered_flops=space.filtered_flops,
    models=models,
  )
  search_results.write(results, root)
  LOGGER.info("what was chosen is in %s", search_results.path(root))
  return results


def _search(space: Space, root: pathlib.Path) -> SearchedModel:
  """Run the trials of one model."""
  search, is_single = space.search, space.search.objective == "worst_forget"
  worst: Direction = "minimize" if space.more_is_worse else "maximize"
  study = Study(
    root / "search",
    f"{space.name}-{space.identity()}",
    space.fields,
    seed=search.seeds[0],
    startup=search.startup,
    directions=(worst,) if is_single else ("minimize", worst),
    first=space.own,
  )

  def objectives(trial: Trial) -> tuple[float, ...]:
    assert trial.worst_forget is not None and trial.flops is not None
    both = trial.flops, trial.worst_forget
    return both[1:] if is_single else both

  def evaluate(number: int, values: Values) -> Trial:
    LOGGER.info("%s: trial %d of %d: %s", space.name, number + 1, search.trials, values)
    trial = _Runner(space, root, values).trial(number)
    LOGGER.info("%s: trial %d: %s", space.name, number + 1, summary(trial))
    return trial

  trials = run_trials(study, search.trials, evaluate, objectives)
  training_flops, attack_flops = spent(root, trials)
  return search_results.model(
    trials,
    space.fields,
    more_is_worse=space.more_is_worse,
    training_flops=training_flops,
    attack_flops=attack_flops,
  )


def summary(trial: Trial) -> str:
  """Return what came of a trial in one line."""
  scores = {
    "retain": trial.retain,
    "worst forget": trial.worst_forget,
    "compute": trial.compute,
    "divergence": trial.divergence,
  }
  known = [f"{name} {score:.3f}" for name, score in scores.items() if score is not None]
  return ", ".join([trial.state, *known])


_BLANK = Trial(
  number=0,
  values={},
  state="pruned",
  retain=None,
  forget=None,
  worst_forget=None,
  flops=None,
  compute=None,
  violations={},
  stages=(),
)


class _Runner:
  """One trial on the engine."""

  def __init__(self, space: Space, root: pathlib.Path, values: Values):
    self._space, self._root, self._values = space, root, values
    self._declared = space.declare(values)
    self._plans = space.plans(self._declared)
    whole = runs.runs_of(root, self._declared, self._plans)
    self._stages = sorted(
      {path.name for run in whole.values() for path in run.directories.values()}
    )

  def trial(self, number: int) -> Trial:
    """Run the model, and the attack if the model is within the bounds."""
    space = self._space
    blank = dataclasses.replace(_BLANK, number=number, values=self._values)
    flops, is_exact = bound(next(iter(self._plans.values())), space.name)
    too_much = self._too_much(flops)
    if is_exact and too_much > 0:
      changes = {**self._cost(flops), "violations": {"compute": too_much}}
      return dataclasses.replace(blank, **changes)
    blank = dataclasses.replace(blank, stages=tuple(self._stages))
    try:
      made = self._run([space.base, space.name])
    except FloatingPointError as error:
      LOGGER.warning("%s", error)
      lost = {"retain": _DIVERGED}
      return dataclasses.replace(blank, state="diverged", violations=lost)
    trial = self._before(blank, made)
    if any(violation > 0 for violation in trial.violations.values()):
      return dataclasses.replace(trial, state="infeasible")
    names = attacks_on(next(iter(self._plans.values())), space.name)
    worst = self._worst(self._run([space.base, space.name, *names]), names)
    return dataclasses.replace(trial, state="complete", worst_forget=worst)

  def _run(self, names: Sequence[str]) -> list[tuple[Run, dict[str, Outcome]]]:
    """Run the stages that these need; return what each seed's left, by name."""
    plans = {s: lineages.needed(plan, names) for s, plan in self._plans.items()}
    trial_runs = list(runs.runs_of(self._root, self._declared, plans).values())
    run_shared(trial_runs)
    return [(run, _outcomes(run)) for run in trial_runs]

  def _before(self, blank: Trial, made: list[tuple[Run, dict[str, Outcome]]]) -> Trial:
    """Return a trial with what is known of its model before the attack."""
    space = self._space
    own = [outcomes[space.name]["validation"] for _, outcomes in made]
    base = _mean(outcomes[space.base]["validation"]["retain"] for _, outcomes in made)
    retain, forget = (
      _mean(scores[name] for scores in own) for name in ("retain", "forget")
    )
    flops = _mean(
      reading.cost(run.stages, outcomes, space.name).flops for run, outcomes in made
    )
    assert base is not None and flops is not None
    violations = {"retain": _lost(space, retain, base)}
    if space.search.largest_compute is not None:
      violations["compute"] = self._too_much(flops)
    divergence = self._divergence([run for run, _ in made])
    if divergence is not None:
      violations["divergence"] = self._too_far(divergence)
    return dataclasses.replace(
      blank,
      retain=retain,
      forget=forget,
      violations=violations,
      divergence=divergence if math.isfinite(divergence or 0.0) else None,
      **self._cost(flops),
    )

  def _divergence(self, made: Sequence[Run]) -> float | None:
    """Return how far the model is from the base, if there is a bound."""
    space = self._space
    if space.search.largest_divergence is None:
      return None
    names = space.name, space.base
    return _mean(divergences.between(run, *names, space.general) for run in made)

  def _too_far(self, divergence: float) -> float:
    """Return by which share of the largest divergence another is above it."""
    largest = self._space.search.largest_divergence
    assert largest is not None, "the caller has looked"
    return divergence / largest - 1 if math.isfinite(divergence) else _DIVERGED

  def _cost(self, flops: float) -> dict[str, float | None]:
    filtered = self._space.filtered_flops
    return {"flops": flops, "compute": flops / filtered if filtered else None}

  def _too_much(self, flops: float) -> float:
    """Return by how much a share of data filtering's FLOPs is above the largest."""
    largest, filtered = self._space.search.largest_compute, self._space.filtered_flops
    return flops / filtered - largest if largest is not None and filtered else -1.0

  def _worst(
    self, made: list[tuple[Run, dict[str, Outcome]]], names: Sequence[str]
  ) -> float | None:
    """Return the worst forget score within the attack's updates."""
    return _mean(
      attack_results.relearning(
        [outcomes[name] for name in names],
        directories=names,
        higher_is_worse=self._space.more_is_worse,
      ).worst_forget[-1]
      for _, outcomes in made
    )


def _lost(space: Space, retain: float | None, base: float) -> float:
  """Return by how much the retained share of the base's is below the smallest."""
  if retain is None:
    return _DIVERGED
  own, whole = (retain, base) if space.more_is_kept else (base, retain)
  return space.search.smallest_retain - (own / whole if whole else 1.0)


def _outcomes(run: Run) -> dict[str, Outcome]:
  outcomes = {stage.name: run.done(stage.name) for stage in run.stages}
  return {name: outcome for name, outcome in outcomes.items() if outcome is not None}


def _mean(values: Iterable[Any]) -> float | None:
  """Return a mean over seeds, None if one has no value."""
  known = list(values)
  return None if None in known else math.fsum(known) / len(known)


def spent(root: pathlib.Path, trials: Sequence[Trial]) -> tuple[float, float]:
  """Return the FLOPs of training and of attacks of all distinct stages of trials.

  Those that count for no model, as the base, are left out, and so is evaluation.
  """
  trained, attacked = [], []
  for directory in sorted({name for trial in trials for name in trial.stages}):
    path = root / "stages" / directory
    if not (path / "done.json").exists():  # It has diverged, or was not attacked.
      continue
    where = path / "config.json"
    stage = stages.from_json(files.read_record(where), path=str(where))
    outcome = files.read_record(path / "done.json")
    if isinstance(stage, AttackStage):
      members = len(stage.learning_rates)
      attacked.append(outcome["cost"]["flops"] * stage.optimizer.num_steps * members)
    elif not (isinstance(stage, TrainStage) and not stage.is_counted):
      trained.append(outcome.get("compute", {}).get("flops", 0))
  return math.fsum(trained), math.fsum(attacked)


def _of_base(space: Space, root: pathlib.Path) -> list[Outcome]:
  """Return what the base of each of the search's seeds left."""
  declared = space.declare(space.corners()[0])
  plans = {
    seed: lineages.needed(plan, [space.base])
    for seed, plan in space.plans(declared).items()
  }
  base_runs = runs.runs_of(root, declared, plans)
  run_shared(
    list(base_runs.values())
  )  # As a rule finished; where no trial was run, not.
  return [_outcomes(run)[space.base] for run in base_runs.values()]


def _base_retain(space: Space, root: pathlib.Path) -> float:
  retain = _mean(each["validation"]["retain"] for each in _of_base(space, root))
  assert retain is not None, "a base that is not finite ends its run"
  return retain


def _base_flops(space: Space, root: pathlib.Path) -> float | None:
  return _mean(each["compute"]["flops"] for each in _of_base(space, root)) or None
