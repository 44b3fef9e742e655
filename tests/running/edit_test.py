"""Edits as programs on one device and on eight, and as stages: scored and shown."""

import functools
import shutil

import jax
import numpy as np
import pytest

from tests import minimal
from tests.attacks import edited
from tests.running import drawn
from tests.running.variants import params_of
from undo_jax import attacks, running, tasks, testing
from undo_jax.distributed import sharding
from undo_jax.frontier import reading, report
from undo_jax.models.decoder import Decoder
from undo_jax.plan import checks
from undo_jax.plan.config import parse
from undo_jax.running import programs
from undo_jax.running.run import problems_of
from undo_jax.utils.types import ConfigError

MODELS = ("base", "max_ent")
TASK = "tests.running.attack_test:TASK"  # Scores that no two models have in common.
STRENGTHS = {
  "pruning": (0.0, 0.3),
  "quantization": (8.0, 3.0),
  "weight_noise": (0.1, 0.3),
  "interpolation_to_base": (0.25, 0.5),
  "difference_rank": (1.0, 16.0),
}


@functools.cache
def declared():
  config = minimal.only(minimal.config(), MODELS)
  config.task = TASK
  config.attacks.relearn.run = False
  for name, strengths in STRENGTHS.items():
    config.attacks[name].update(run=True, strengths=strengths, models=("max_ent",))
  parsed = parse(config)
  checks.check(parsed, dict(testing.mesh(1).shape))
  return parsed


def made(workdir, mesh, *, damaged=False):
  """Return a run whose models are there, drawn and not trained."""
  return drawn.made(workdir, mesh, declared(), MODELS, damaged=damaged)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  run = made(tmp_path_factory.mktemp("edits"), testing.mesh(1))
  running.run_shared([run])
  return run


def scores_of(run, params):
  """Return the scores of parameters by the task's own function."""
  names, problems = problems_of(run)
  make = tasks.get(TASK).make_evaluate
  evaluate = make(Decoder(declared().model).apply, names, rows_at_once=64)
  return jax.device_get(jax.jit(evaluate)(params, problems))


def test_an_edit_is_scored_as_it_stands_at_no_updates(finished):
  base, model = (jax.tree.map(np.asarray, params_of(finished, name)) for name in MODELS)
  half = jax.tree.map(lambda w, w0: 0.5 * w + 0.5 * w0, model, base)
  for name, member, params in (
    ("pruning", 0, model),  # Nothing is pruned.
    ("interpolation_to_base", 1, half),
    ("difference_rank", 1, base),  # Of all ranks.
  ):
    outcome, expected = finished.done(f"{name}_max_ent"), scores_of(finished, params)
    for score in ("retain", "forget"):
      actual = outcome["scores"][score][member]
      np.testing.assert_allclose(actual, [expected[score]], rtol=1e-4, atol=1e-5)
    assert outcome["steps"] == [0] and outcome["strengths"] == [*STRENGTHS[name]]
    assert not any(outcome["cost"].values())
    assert outcome["worst_forget"] == [max(outcome["scores"]["forget"])[0]]
  every = [finished.done(f"{n}_max_ent")["scores"]["forget"] for n in STRENGTHS]
  assert len({score for scores in every for (score,) in scores}) == 10


@pytest.mark.parametrize("name", STRENGTHS)
def test_eight_devices_give_what_one_gives(name):
  """Of models whose matrices lie in parts, along both axes."""
  mesh = testing.mesh(8, fsdp=2, tensor=2)
  abstract = programs.abstract_params(edited.MODEL, mesh)
  params, base = (
    jax.tree.map(lambda x, s: sharding.put_whole(x, s.sharding), tree, abstract)
    for tree in (edited.PARAMS, edited.BASE)
  )
  options = {"scope": "all"} if name == "pruning" else {}
  reads = attacks.EDITS.get(name).reads_base
  one, eight = (
    edited.edited(
      name, STRENGTHS[name][1], options, params=p, base=b if reads else None, mesh=m
    )
    for p, b, m in ((edited.PARAMS, edited.BASE, None), (params, base, mesh))
  )

  def close(x, y):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)

  jax.tree.map(close, eight, one)


def test_a_run_of_edits_alone_is_read_and_shown(finished):
  directories = {name: path.name for name, path in finished.directories.items()}
  reading.write_plan(finished.workdir, {0: directories})
  results = reading.read(finished.workdir, declared())
  under = results.models["max_ent"].runs[0].attacks["pruning"]
  scores = finished.done("pruning_max_ent")["scores"]["forget"]
  assert under.is_edit and under.learning_rates == STRENGTHS["pruning"]
  assert under.worst_forget == (max(scores)[0],)
  page = report.page(results)
  assert "smallest weights of each matrix" in page and "several strengths" in page
  assert "learning rate" not in page
  assert "the attacker has the weights and the base's weights" in page.replace(
    "&#39;", "'"
  )


def test_a_model_that_no_edit_leaves_finite_is_told_in_one_line(finished, tmp_path):
  run = made(tmp_path, testing.mesh(1), damaged=True)
  shutil.copytree(finished.directories["data"], run.directories["data"])
  with pytest.raises(ConfigError, match=r"attacks.pruning.strengths: expected one at"):
    running.run_shared([run])
