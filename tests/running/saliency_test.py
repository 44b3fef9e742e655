"""Squared gradients as a stage, and the noise that is shaped by them."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import minimal
from tests.running.variants import take_base
from undo_jax import config as builders
from undo_jax import objectives, running, testing
from undo_jax.distributed import sharding
from undo_jax.estimation import workload
from undo_jax.models.decoder import Decoder
from undo_jax.plan import checks, lineages, translation
from undo_jax.plan.config import parse
from undo_jax.running import programs, saliency, training
from undo_jax.running.data import batches_of
from undo_jax.running.run import load
from undo_jax.running.saliency import load_fisher, run_saliency

BATCHES, SHARE = 3, 0.3


def shaped_run(workdir, base, mesh):
  """Return a run, not yet run, of a base noised where its own gradients say."""
  config = builders.shipped(minimal.CONFIG)
  saliency = {"num_batches": BATCHES, "batch_size": 8, "low": 0.25}
  config.models.shaped = builders.shaped(
    config.models.undo,
    shares=(SHARE,),
    saliency=saliency,
    start="base",
    frozen={"teacher": "base"},
  )
  config.models.shaped.noise.beta = 0.0
  config.update_from_flattened_dict(minimal.OVERRIDES)
  declared = parse(config)
  checks.check(declared, dict(mesh.shape))
  plan = translation.plan(declared, 0)
  run = running.Run(
    workdir,
    mesh,
    checkpoint_every=1,
    evaluation_rows=declared.evaluation_rows,
    replicas_at_once=None,
    stages=tuple(lineages.needed(plan, [f"shaped_share_{SHARE}"])),
  )
  take_base(run, base)
  return run


@pytest.fixture(scope="module")
def finished(chain, tmp_path_factory):
  """The run, its last stage left out, and what came of the others."""
  run = shaped_run(tmp_path_factory.mktemp("shaped"), chain[1], testing.mesh(1))
  return run, running.run_stages(dataclasses.replace(run, stages=run.stages[:3]))


def fisher_of(run):
  return jax.device_get(load_fisher(run, "saliency_base"))


def test_what_a_shape_costs_counts_for_the_model_that_has_it(finished):
  run, outcomes = finished
  name = f"shaped_share_{SHARE}"
  assert [stage.name for stage in run.stages] == [*outcomes, name]
  base, squared = outcomes["base"]["compute"], outcomes["saliency_base"]["compute"]
  # Two parts of eight rows each, where an update of the base reads one of sixteen.
  per_batch = base["flops"] // outcomes["base"]["updates"]
  assert squared == {
    "updates": 0,
    "tokens": BATCHES * 16 * run.stages[1].length,
    "flops": BATCHES * per_batch,
  }
  assert workload.flops_of(run.stages[2], ()) == squared["flops"]
  lineage = [stage.name for stage in lineages.lineage(run.stages, name)]
  assert sorted(lineage) == ["saliency_base", name]


def test_what_is_saved_is_the_mean_of_squared_gradients(finished):
  run, _ = finished
  stage = run.stages[2]
  params = load(run, "base", stage.model)
  objective = objectives.make("cross_entropy", Decoder(stage.model).apply)
  gradient = jax.jit(jax.grad(lambda p, batch: objective(p, (), batch, None)[0].mean()))
  rows, fisher = batches_of(run, stage), fisher_of(run)
  for part in ("forget", "retain"):
    squares = [
      jax.tree.map(lambda g: np.float64(g) ** 2, gradient(params, rows[i][part]))
      for i in range(BATCHES)
    ]
    expected = jax.tree.map(lambda *each: np.mean(each, 0), *squares)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6 * y.max()),
      fisher[part],
      expected,
    )
  forget, retain = (np.float64(fisher[p]["embedding"]) for p in ("forget", "retain"))
  assert np.abs(forget - retain).max() > 0.1 * forget.max()


def test_noise_falls_on_the_share_with_the_highest_scores(finished):
  run, _ = finished
  fisher, shaped = fisher_of(run), run.stages[3]
  params = jax.device_get(load(run, "base", shaped.model))
  ratios = jax.tree.map(
    lambda f, r: np.float32(f) / np.where(f + r > 0, f + r, 1), *fisher.values()
  )
  flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(ratios)])
  count = round(SHARE * flat.size)
  least = np.partition(flat, flat.size - count)[flat.size - count]
  assert 0 < least < 1
  got = training._initial_params(run, shaped)
  # alpha 1 and beta 0 make zeros; elsewhere alpha 0.25 leaves three quarters.
  jax.tree.map(
    lambda x, p, s: np.testing.assert_allclose(
      x, np.where(s >= least, 0, 0.75 * p), rtol=1e-6
    ),
    jax.device_get(got),
    params,
    ratios,
  )


def test_a_resumed_stage_is_the_same_bit_for_bit(finished, chain, tmp_path):
  run, outcomes = finished
  other = shaped_run(tmp_path, chain[1], run.mesh)
  stage, calls = other.stages[2], []
  directory = other.directories[stage.name]
  program = saliency.averaging(stage.model, run.mesh)

  def add(*args):
    calls.append(None)
    if len(calls) == 4:
      raise KeyboardInterrupt
    return program.add(*args)

  with pytest.MonkeyPatch.context() as patch:
    broken = dataclasses.replace(program, add=add)
    patch.setattr(saliency, "averaging", lambda *_: broken)
    with pytest.raises(KeyboardInterrupt):
      run_saliency(other, stage, directory, "interrupted")
    assert run_saliency(other, stage, directory, "resumed") == outcomes[stage.name]
  assert len(calls) == 4 + 2 * (BATCHES - 1)  # All but the first batch of each part.
  jax.tree.map(np.testing.assert_array_equal, fisher_of(other), fisher_of(run))


def test_squared_gradients_are_the_same_on_eight_devices():
  model = testing.config(num_layers=1)
  batch = jax.device_get(testing.batch(jax.random.key(1)))
  sums = []
  for mesh in (testing.mesh(1), testing.mesh(8, data=2, fsdp=2, tensor=2)):
    program = saliency.averaging(model, mesh)
    params = jax.tree.map(
      lambda x, s: sharding.put_whole(x, s.sharding),
      testing.weights(model),
      programs.abstract_params(model, mesh),
    )
    rows = sharding.put_batch(batch, mesh)
    sums.append(program.add(program.zeros(), params, rows, 0.5))
  where = jax.tree.map(lambda x: x.sharding.spec, sums[1])
  assert where["embedding"] == jax.sharding.PartitionSpec("tensor", "fsdp")
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7 * y.max()),
    *map(jax.device_get, reversed(sums)),
  )
