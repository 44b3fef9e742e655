"""A search on the engine: its trials are stages, its choice goes into a run."""

import jax
import numpy as np
import pytest

from tests import minimal
from undo_jax import config as builders
from undo_jax import tasks
from undo_jax.frontier import search_results
from undo_jax.plan import stages
from undo_jax.plan.config import plain
from undo_jax.running import attack, runs, search, search_space, sharing
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError

ALPHA = builders.uniform("noise.alpha", 0.1, 0.9)


def config(*, models=None, search=None, **changes):
  """Return a run with a search of a noised model, whose trials share programs."""
  made = minimal.only(minimal.config(**changes), ["base", "data_filtering"])
  made.models.student = builders.noised_finetune(
    alphas=(0.5,),
    mixture="data_filtering",
    optimizer=made.models.base.optimizer,
    batch_size=16,
  )
  made.attacks.search = builders.like(
    made.attacks.relearn, run=False, scores="validation", seeds=(7,), num_steps=2
  )
  made.references.unlearned = None
  bounds = {"smallest_retain": 0.0, "largest_compute": 1.5}
  settings = {"trials": 2, "startup": 1, **bounds} | (search or {})
  models = {"student": (ALPHA,)} if models is None else models
  made.search = builders.search(attack="search", models=models, **settings)
  return made


class Killed(BaseException):
  pass


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
  """Return the workdir of a search that was stopped in its last attack, resumed."""
  workdir = tmp_path_factory.mktemp("searched")
  calls = []

  def killed(attacks):
    calls.append(attacks)
    if len(calls) == 2:
      raise Killed
    return attack.run_attacks(attacks)

  with minimal.one_device():
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(sharing, "run_attacks", killed)
      with pytest.raises(Killed):
        search.run_search(config(), workdir)
    before = done(workdir)
    assert not search_results.path(workdir).exists()
    return workdir, search.run_search(config(), workdir), before


def done(workdir):
  """Return when each stage of a workdir was finished, by its directory."""
  paths = (workdir / "stages").glob("*/done.json")
  return {path.parent.name: path.stat().st_mtime_ns for path in paths}


def test_a_search_that_was_stopped_is_the_same_as_one_that_was_not(searched, tmp_path):
  workdir, resumed, before = searched
  with minimal.one_device():
    assert search.run_search(config(), tmp_path) == resumed
  assert search_results.read(search_results.path(workdir)) == resumed
  # The base is shared by the trials; what was finished was not run again.
  names = sorted(name.rsplit("-")[0] for name in done(workdir))
  assert names == ["base", "data", *["search_seed7_student"] * 2, *["student"] * 2]
  assert len(before) == 5 and before.items() < done(workdir).items()


def test_trials_say_what_the_stages_say(searched):
  workdir, result, _ = searched
  model = result.models["student"]
  assert [trial.state for trial in model.trials] == ["complete"] * 2
  for trial in model.trials:
    outcomes = {
      name.rsplit("-")[0]: files.read_record(workdir / "stages" / name / "done.json")
      for name in trial.stages
    }
    attacked = outcomes["search_seed7_student"]
    own = outcomes["student"]["validation"]
    assert (trial.retain, trial.forget) == (own["retain"], own["forget"])
    # Before the attack it scores what training scored: validation items.
    assert {row[0] for row in attacked["scores"]["forget"]} == {own["forget"]}
    scores = attacked["scores"]["forget"]
    assert trial.worst_forget == max(score for row in scores for score in row)
    # As many updates of as many rows as data filtering has.
    assert trial.compute == 1.0
    assert trial.flops == outcomes["student"]["compute"]["flops"]
    spent = attacked["cost"]["flops"] * 2 * 2  # Updates, learning rates.
    assert model.attack_flops == 2 * spent
  assert model.training_flops == sum(trial.flops for trial in model.trials)
  assert result.base_flops == outcomes["base"]["compute"]["flops"]


def test_its_attack_scores_the_tasks_validation_items_alone(searched):
  workdir, _, _ = searched
  with minimal.one_device():
    (space,) = search_space.spaces(config())
    declared = space.declare({"alpha": 0.5})
    run = runs.runs_of(workdir, declared, space.plans(declared))[1000]
    scored = attack._scored(run, run.stages[-1])[1]
  task = tasks.get("arithmetic")
  where = run.data.data, run.data.seeds, run.directories["data"]
  own, other = (find(*where)[1] for find in (task.validation, task.problems))
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(scored), own)
  with pytest.raises(AssertionError):
    jax.tree.map(np.testing.assert_array_equal, own, other)


def test_what_was_chosen_goes_into_a_run(searched):
  workdir, result, _ = searched
  chosen = search_results.apply(plain(config()), result)
  value = result.models["student"].values["alpha"].value
  declared = runs.declare(chosen)
  assert [*declared.config.models] == ["base", "data_filtering", "student"]
  assert declared.config.models["student"].noise.alpha == value
  # The stage of the same recipe under the search's seed is the trial's own.
  plan = runs.declare({**chosen, "seeds": [1000], "search": None}).plan(1000)
  name = f"student-{stages.identities(plan)['student']}"
  assert name in result.models["student"].trials[result.models["student"].chosen].stages
  with pytest.raises(ConfigError, match="seeds that the search never saw, got 1000"):
    search_results.apply({**chosen, "seeds": [0, 1000]}, result)


def test_a_trial_that_would_cost_too_much_is_not_run(tmp_path):
  with minimal.one_device():
    (space,) = search_space.spaces(config(search={"largest_compute": 0.9}))
    runner = search._Runner(space, tmp_path, {"alpha": 0.5})
    trial = runner.trial(3)
  assert (trial.state, trial.number, trial.stages) == ("pruned", 3, ())
  assert trial.violations == {"compute": pytest.approx(0.1)}
  assert not (tmp_path / "stages").exists()


def test_models_are_searched_after_those_that_they_are_made_from():
  made = builders.shipped("frontier:tiny")
  order = [space.name for space in search_space.spaces(made)]
  assert order.index("max_ent") < order.index("undo")
  assert sorted(order) == ["data_filtering", "max_ent", "undo"]


def refused(message, made):
  with pytest.raises(ConfigError, match=message) as error:
    search_space.spaces(made)
  assert "\n" not in str(error.value)


def test_what_cannot_work_is_one_line():
  rate = "optimizer.learning_rate"
  student = lambda *ranges: {"student": (ALPHA, *ranges)}  # noqa: E731
  refused("search: expected a block", minimal.config())
  refused(
    r"search\.seeds: expected seeds that no table uses.*got \(0, 3\)",
    config(search={"seeds": (0, 3)}),
  )
  refused(
    r"student\.rate\.path: expected a path of fields that the entry has.*r\.rate",
    config(models=student(builders.uniform("optimizer.rate", 0.1, 0.2))),
  )
  refused(
    r"learning_rate\.high: expected a number above low=0\.2, got 0\.1",
    config(models=student(builders.uniform(rate, 0.2, 0.1))),
  )
  refused(
    "search.models: expected some of base, data_filtering, student, got 'rmu'",
    config(models={"rmu": (builders.log_uniform(rate, 1e-4, 1e-3),)}),
  )
  refused(
    "student: expected noise.alpha among its fields",
    config(models={"student": (builders.log_uniform(rate, 1e-4, 1e-3),)}),
  )
  refused(
    r"search\.models\.student at .*batch_size: expected",
    config(models=student(builders.choices("batch_size", 16, 0))),
  )


def test_the_search_has_an_attack_of_its_own():
  made = config()
  made.search.attack = "nothing"
  refused(r"attack: expected an entry.*run is False.*\(lora, .*search\)", made)
  made = config()
  made.attacks.search.run = True
  refused(r"search\.attack: expected .* run is False", made)
  made = config()
  made.attacks.search.scores = "test"
  refused(r"attacks\.search\.scores: expected validation", made)
  made = config(attacks__relearn__seeds=(7, 8))
  refused(r"attacks\.search\.seeds: expected seeds of its own", made)


def test_a_table_does_not_score_what_searches_read():
  made = config()
  made.search = None
  made.attacks.search.run = True
  with pytest.raises(ConfigError, match="expected test in a table"):
    runs.check_items(runs.declare(made).config)
