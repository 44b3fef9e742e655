"""A model that is noised again while it is trained, and resumed."""

import dataclasses
import functools

import jax
import numpy as np

from tests import minimal
from tests.running.variants import take_base
from undo_jax import config as builders
from undo_jax import interpolation, running, testing
from undo_jax.plan import lineages, translation
from undo_jax.plan.config import parse
from undo_jax.running import programs, training
from undo_jax.running.run import load
from undo_jax.utils import streams


def noised_run(workdir, base):
  """Return a run of base trained on from itself, noised after updates 0, 1 and 2."""
  config = minimal.config()
  noise = {"alpha": 0.5, "again_every": 1, "again_times": 2}
  config.models.noised = builders.like(config.models.base, start="base", noise=noise)
  plan = translation.plan(parse(config), 0)
  run = running.Run(
    workdir,
    testing.mesh(1),
    checkpoint_every=1,
    evaluation_rows=parse(config).evaluation_rows,
    replicas_at_once=None,
    stages=tuple(lineages.needed(plan, ["noised"])),
  )
  take_base(run, base)
  return run


def watched(program, stop_before=None):
  """Return a program whose step keeps what it was given and what it returned."""
  given, returned = [], []

  def step(state, *rest):
    if len(given) == stop_before:
      raise KeyboardInterrupt
    given.append(jax.tree.map(np.array, state.params))
    state, metrics = program.step(state, *rest)
    returned.append(jax.tree.map(np.array, state.params))
    return state, metrics

  return dataclasses.replace(program, step=step), given, returned


def trained(run, monkeypatch, stop_before=None):
  """Train the noised model; return what its updates began and ended with."""
  stage = run.stages[2]
  program, given, returned = watched(programs.training_of(stage, run.mesh), stop_before)
  with monkeypatch.context() as patch:
    patch.setattr(programs, "training_of", lambda *_: program)
    try:
      described = run, stage, run.directories["noised"], "noised"
      list(training.run_trainings([described]))
    except KeyboardInterrupt:
      return given, returned
  final = jax.device_get(load(run, "noised", stage.model))
  jax.tree.map(np.testing.assert_array_equal, final, returned[-1])
  return given, returned


def test_noise_comes_again_anew_and_a_resumed_stage_is_the_same(
  chain, tmp_path, monkeypatch
):
  run, other = (noised_run(tmp_path / name, chain[1]) for name in ("one", "two"))
  given, returned = trained(run, monkeypatch)
  base = load(run, "base", run.stages[2].model)
  key = streams.key(0, "noise")
  keys = [key, jax.random.fold_in(key, 1), jax.random.fold_in(key, 2)]
  rules = (("(.*/)?scale", interpolation.zero), (".*", interpolation.xavier_uniform))
  noise = jax.jit(
    functools.partial(interpolation.toward_init, alpha=0.5, beta=0.1, rules=rules)
  )
  for params, key, noised in zip([base, *returned[:2]], keys, given, strict=True):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-7),
      noised,
      noise(params, key),
    )
  # Interrupted after the second noise, whose weights were never saved.
  assert len(trained(other, monkeypatch, stop_before=2)[0]) == 2
  again, resumed = trained(other, monkeypatch)
  jax.tree.map(np.testing.assert_array_equal, again, given[2:])
  jax.tree.map(np.testing.assert_array_equal, resumed, returned[2:])
