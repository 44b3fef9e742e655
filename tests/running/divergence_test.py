"""A search's bound on how far models may move from the base, against float64."""

import jax
import numpy as np
import pytest

from tests import minimal
from tests.running.search_test import config, done, refused
from undo_jax import tasks
from undo_jax.models.decoder import Decoder
from undo_jax.running import divergence, runs, search, search_space
from undo_jax.running.run import load
from undo_jax.utils import files

VALUES = {"alpha": 0.5}


def space_of(**settings):
  made = config(search=settings)
  made.mixtures.general = {"retain": 1.0}
  (space,) = search_space.spaces(made)
  return space


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """Return a workdir with a trial, and the trial, which no divergence is small for."""
  workdir = tmp_path_factory.mktemp("bounded")
  with minimal.one_device():
    space = space_of(largest_divergence=1e-3, divergence_mixture="general")
    return workdir, space, search._Runner(space, workdir, VALUES).trial(0)


def run_of(workdir, space):
  return runs.runs_of(workdir, *_declared(space))[1000]


def _declared(space):
  declared = space.declare(VALUES)
  return declared, space.plans(declared)


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  logits = logits - logits.max(axis=-1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_it_is_the_mean_over_tokens_in_float64(made, monkeypatch):
  workdir, space, _ = made
  with minimal.one_device():
    run = run_of(workdir, space)
    where = run.data.data, files.here(run.directories["data"])
    source = tasks.get("arithmetic").source(*where, "retain")
    rows = [source[i] for i in range(len(source))]
    # All rows, each once.
    monkeypatch.setattr(divergence, "ROWS", len(rows))
    assert len(rows) % run.evaluation_rows == 0
    got = divergence.between(run, "student", "base", space.general)
    model = run.stages[-2].model
    tokens = np.stack([row["tokens"] for row in rows])
    mask = np.stack([row["mask"] for row in rows])[:, 1:]
    log_p, log_q = (
      log_softmax(Decoder(model).apply(load(run, name, model), tokens[:, :-1]).logits)
      for name in ("base", "student")
    )
  by_token = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
  assert got == pytest.approx((by_token * mask).sum() / mask.sum(), rel=1e-5)


def test_a_model_that_moved_too_far_is_not_attacked(made):
  workdir, space, trial = made
  assert trial.state == "infeasible" and trial.worst_forget is None
  with minimal.one_device():
    run = run_of(workdir, space)
    value = divergence.between(run, "student", "base", space.general)
  assert trial.divergence == value > 0.01
  assert trial.violations["divergence"] == pytest.approx(value / 1e-3 - 1)
  assert not any(name.startswith("search") for name in done(workdir))


def test_without_a_bound_nothing_is_computed(made, monkeypatch):
  workdir, _, bounded = made

  def between(*args):
    raise AssertionError(args)

  monkeypatch.setattr(divergence, "between", between)
  with minimal.one_device():
    trial = search._Runner(space_of(), workdir, VALUES).trial(0)
  assert (trial.state, trial.divergence) == ("complete", None)
  assert trial.retain == bounded.retain and "divergence" not in trial.violations


def test_a_model_that_predicts_nothing_finite_is_too_far(made, monkeypatch):
  workdir, space, _ = made
  monkeypatch.setattr(divergence, "between", lambda *_: float("nan"))
  with minimal.one_device():
    trial = search._Runner(space, workdir, VALUES).trial(0)
  assert (trial.state, trial.divergence) == ("infeasible", None)
  assert trial.violations["divergence"] == 1.0


def test_bounds_and_rows_are_of_the_searches_identity():
  bounds = ({}, {"largest_divergence": 0.1}, {"largest_divergence": 0.2})
  names = [space_of(**bound).identity() for bound in bounds]
  assert len({*names}) == 3
  # Without a bound the mixture says nothing; rows of two names are the same rows.
  for bound, name in zip(bounds, names, strict=True):
    assert space_of(divergence_mixture="general", **bound).identity() == name


def test_what_cannot_work_is_one_line():
  def bounded(mixture):
    return config(search={"largest_divergence": 0.1, "divergence_mixture": mixture})

  refused("divergence_mixture: expected one of .*, got 'nothing'", bounded("nothing"))
  refused(
    "divergence_mixture: expected a mixture of whole splits, without forget.*'attack'",
    bounded("attack"),
  )
  made = config(search={"largest_divergence": 0.0})
  refused("search.largest_divergence: expected a number above 0, got 0", made)


def test_devices_agree(made):
  workdir, space, trial = made
  assert jax.device_count() > 1
  run = run_of(workdir, space)
  assert run.mesh.devices.size > 1
  value = divergence.between(run, "student", "base", space.general)
  assert value == pytest.approx(trial.divergence, rel=1e-4)
