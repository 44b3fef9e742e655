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
from undo_jax.plan import checks, lineages, translation
from undo_jax.plan.config import parse
from undo_jax.running.data import batches_of
from undo_jax.utils import trees

NAMES = (
  *("circuit_breakers", "tamper_resistance", "max_ent_averaged", "distance"),
  *("max_ent_masked", "max_ent_attributed", "mudman", "rep_select"),
  *("invariant", "task_vector", "weight_distortion", "layered_max_ent"),
)
LAYERS = ("layered_max_ent_1", "layered_max_ent_2", "layered_max_ent")
# Followers of max_ent have its updates.
FOLLOWERS = ("layered_max_ent",)
ATTACKED = ("invariant", "task_vector", "weight_distortion", "layered_max_ent")
LAST = (*NAMES, *(f"relearn_{name}" for name in ATTACKED))
CHANGES = {
  **{f"models.{name}.run": True for name in NAMES},
  **{f"models.{n}.optimizer.num_steps": 2 for n in NAMES if n not in FOLLOWERS},
  **{f"models.{name}.batch_size": 16 for name in NAMES if name not in FOLLOWERS},
  "models.max_ent_averaged.optimizer.average_begin": 1,
  "models.max_ent_averaged.optimizer.average_every": 1,
  "models.max_ent_masked.trained.share": 0.25,
  "models.max_ent_masked.trained.batch_size": 32,
  "models.max_ent_attributed.trained.share": 0.25,
  "models.max_ent_attributed.trained.batch_size": 32,
  "models.max_ent_attributed.trained.curvature": 0.1,
  "models.max_ent_attributed.trained.num_batches": 2,
  "models.rep_select.options.adversary_updates": 1,
  "models.rep_select.options.gradient_updates": 1,
  "models.rep_select.options.components": 4,
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
    stages=tuple(lineages.needed(translation.plan(declared, 0), LAST)),
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


def test_mudman_carries_an_adversary_that_relearns_beside_the_model(finished):
  run, outcomes = finished
  first, second = rows(run, "mudman")
  # Two passes of forget rows at the adversary, one of retain rows at the model.
  passes = outcomes["mudman"]["compute"]["flops"]
  assert passes == 3 * outcomes["distance"]["compute"]["flops"]
  for row in (first, second):
    terms = ("forget_negative_entropy", "adversary_cross_entropy")
    total = sum(row[name] for name in (*terms, "retain_cross_entropy"))
    np.testing.assert_allclose(row["loss"], total, rtol=1e-5)
  before, after = (jax.device_get(params_of(run, n)) for n in ("base", "mudman"))
  moved = np.linalg.norm(flat(after) - flat(before))
  # Two updates at rate 0.1: what forgets is of length 1, the rest a hundredth of R's.
  most = 0.01 * sum(row["gradient_norm"] for row in (first, second))
  assert 0.01 < moved < 0.1 * (2 + most)


def flat(tree):
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def moved_by_score(run, name):
  """Return the scores of all weights, by gradients taken again, and which moved."""
  made = {stage.name: stage for stage in run.stages}
  stage = made[made[name].trained_saliency]
  before, after = (jax.device_get(params_of(run, each)) for each in ("base", name))
  decoder = Decoder(stage.model)

  @jax.jit
  @jax.grad
  def gradient(params, batch):
    logits = decoder.apply(params, batch["inputs"]).logits
    return cross_entropy(logits, batch["targets"], batch["mask"]).mean()

  batches = pipeline.iterator(batches_of(run, stage))
  drawn = [next(batches) for _ in range(stage.num_batches)]
  forget, retain = (
    np.mean([flat(gradient(before, batch[part])) for batch in drawn], axis=0)
    for part in ("forget", "retain")
  )
  attributed = abs((flat(before) - retain / 0.1) * forget)
  sizes = {"forget": abs(forget), "attribution": attributed}[made[name].trained.by]
  return sizes, flat(before) != flat(after)


@pytest.mark.parametrize("name", ["max_ent_masked", "max_ent_attributed"])
def test_the_weights_with_the_largest_scores_are_trained(finished, name):
  """By gradients on one batch of forget rows, or those of two and of retain rows."""
  sizes, moved = moved_by_score(finished[0], name)
  limit = np.sort(sizes)[::-1][round(0.25 * len(sizes)) - 1]
  assert not moved[sizes < 0.99 * limit].any()
  assert moved[sizes > 1.01 * limit].mean() > 0.98  # Adam moves all it may.


def test_distance_regularization_reads_no_row_that_is_labelled_forget(finished):
  run, outcomes = finished
  stage = next(s for s in run.stages if s.name == "distance")
  assert set(stage.parts) == {"retain"}
  assert {outcomes[name]["updates"] for name in NAMES} == {2}


def loss_on(run, name, part):
  """Return the cross-entropy of a model on a batch of forget and retain rows."""
  (stage,) = (each for each in run.stages if each.name == "max_ent_averaged")
  batch = next(pipeline.iterator(batches_of(run, stage)))[part]
  logits = jax.jit(Decoder(stage.model).apply)(params_of(run, name), batch["inputs"])
  return float(cross_entropy(logits.logits, batch["targets"], batch["mask"]).mean())


def test_a_negated_task_vector_is_worse_at_what_was_finetuned(finished):
  run, outcomes = finished
  assert loss_on(run, "task_vector", "forget") > loss_on(run, "base", "forget")
  # One pass an update, as distance regularization.
  passes = outcomes["distance"]["compute"]["flops"]
  assert outcomes["task_vector"]["compute"]["flops"] == passes


def test_distorted_weights_lie_a_noises_length_from_the_base(finished):
  before, after = (params_of(finished[0], n) for n in ("base", "weight_distortion"))
  moved = flat(jax.device_get(after)) - flat(jax.device_get(before))
  assert 0.018 < np.sqrt(np.mean(moved**2)) < 0.024


def test_a_selection_moves_the_matrices_of_mlps_alone(finished):
  run, outcomes = finished
  before, after = (jax.device_get(params_of(run, n)) for n in ("base", "rep_select"))
  pairs = zip(*map(jax.tree.leaves, (before, after)), strict=True)
  moved = [bool(np.any(x != y)) for x, y in pairs]
  assert moved == ["layers/mlp/" in path for path in trees.paths(before)]
  passes = outcomes["distance"]["compute"]["flops"]
  assert outcomes["rep_select"]["compute"]["flops"] == passes


def test_an_environments_rows_cost_three_passes(finished):
  _, outcomes = finished
  passes = outcomes["distance"]["compute"]["flops"]
  # Around NPO: forget, retain and three of the environment's; and one forward of the
  # reference on forget rows, a third of a pass.
  assert outcomes["invariant"]["compute"]["flops"] == pytest.approx(
    (5 + 1 / 3) * passes
  )


def test_layers_are_trained_one_from_the_other(finished):
  run, outcomes = finished
  made = {stage.name: stage for stage in run.stages}
  starts = [made[name].init for name in LAYERS]
  assert starts == ["base", *LAYERS[:-1]]
  flops = {outcomes[name]["compute"]["flops"] for name in LAYERS}
  assert len(flops) == 1 and flops == {outcomes["max_ent_averaged"]["compute"]["flops"]}


@pytest.mark.parametrize("name", ATTACKED)
def test_what_was_unlearned_is_attacked(finished, name):
  outcome = finished[1][f"relearn_{name}"]
  scores = np.array(outcome["scores"]["forget"])
  assert outcome["steps"] == [0, 2, 4] and scores.shape == (2, 3)
  assert np.all(np.isfinite(scores))
