"""Methods that ask a run for more than forget and retain rows."""

import json

import jax
import numpy as np
import pytest

from tests import minimal
from tests.running.variants import params_of, take_base
from undo_jax import config as builders
from undo_jax import running, testing
from undo_jax.data import pipeline
from undo_jax.models.decoder import Decoder
from undo_jax.objectives.cross_entropy import cross_entropy
from undo_jax.plan import checks, stages, translation
from undo_jax.plan.config import parse
from undo_jax.running.data import batches_of

NAMES = (
  *("circuit_breakers", "tamper_resistance", "max_ent_averaged", "distance"),
  "max_ent_masked",
)
CHANGES = {
  **{f"models.{name}.run": True for name in NAMES},
  **{f"models.{name}.optimizer.num_steps": 2 for name in NAMES},
  **{f"models.{name}.batch_size": 16 for name in NAMES},
  "models.max_ent_averaged.optimizer.average_begin": 1,
  "models.max_ent_averaged.optimizer.average_every": 1,
  "models.max_ent_masked.trained.share": 0.25,
  "models.max_ent_masked.trained.batch_size": 32,
  "models.tamper_resistance.options.adversary_steps": 4,
  "models.tamper_resistance.options.adversary_rates": (1e-2,),
}


@pytest.fixture(scope="module")
def finished(chain, tmp_path_factory):
  """A run of these on a finished base, and what came of it."""
  config = builders.shipped(minimal.CONFIG)
  config.update_from_flattened_dict(minimal.OVERRIDES | CHANGES)
  declared, mesh = parse(config), testing.mesh(1)
  checks.check(declared, dict(mesh.shape))
  run = running.Run(
    tmp_path_factory.mktemp("methods"),
    mesh,
    checkpoint_every=100,
    evaluation_rows=declared.evaluation_rows,
    replicas_at_once=None,
    stages=tuple(stages.needed(translation.plan(declared, 0), NAMES)),
  )
  take_base(run, chain[1])
  return run, running.run_stages(run)


def rows(run, name):
  lines = (run.directories[name] / "metrics.jsonl").read_text().splitlines()
  return [row for row in map(json.loads, lines) if row["kind"] == "train"]


def test_circuit_breakers_know_how_far_they_are(finished):
  run, _ = finished
  for done, row in enumerate(rows(run, "circuit_breakers")):
    late = done / 2 / 2  # Of two updates, the half of their share.
    rerouted, drift = row["forget_rerouting_error"], row["retain_distance"]
    expected = 10.0 * ((1 - late) * rerouted + late * drift)
    np.testing.assert_allclose(row["loss"], expected, rtol=1e-5)


def test_an_update_of_tar_costs_its_adversarys_steps(finished):
  _, outcomes = finished
  flops = {name: outcomes[name]["compute"]["flops"] for name in NAMES}
  # Four steps of the adversary, one look at forget rows, one at retain rows; MaxEnt
  # takes two passes, distance regularization one.
  assert flops["tamper_resistance"] == 3 * flops["max_ent_averaged"]
  assert flops["max_ent_averaged"] == 2 * flops["distance"]


def test_the_weights_with_the_largest_gradients_on_forget_rows_are_trained(finished):
  """Of one batch, whose gradient is taken again here."""
  run, _ = finished
  before, after = (
    jax.device_get(params_of(run, name)) for name in ("base", "max_ent_masked")
  )
  stage = next(s for s in run.stages if s.name == "saliency_base")
  batch = next(pipeline.iterator(batches_of(run, stage)))["forget"]
  decoder = Decoder(stage.model)

  def lost(params):
    logits = decoder.apply(params, batch["inputs"]).logits
    return cross_entropy(logits, batch["targets"], batch["mask"]).mean()

  grads = jax.device_get(jax.jit(jax.grad(lost))(before))
  sizes, moved = (
    np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    for tree in (
      jax.tree.map(np.abs, grads),
      jax.tree.map(lambda x, y: x != y, before, after),
    )
  )
  limit = np.sort(sizes)[::-1][round(0.25 * len(sizes)) - 1]
  assert not moved[sizes < 0.99 * limit].any()
  assert moved[sizes > 1.01 * limit].mean() > 0.98  # Adam moves all it may.


def test_distance_regularization_reads_no_row_that_is_labelled_forget(finished):
  run, outcomes = finished
  stage = next(s for s in run.stages if s.name == "distance")
  assert set(stage.parts) == {"retain"}
  assert {outcomes[name]["updates"] for name in NAMES} == {2}
