"""Trained models as stages: the variants of the paper, what they report and cost."""

import json

import jax
import numpy as np

from tests.running.variants import params_of


def last_row(run, name):
  lines = (run.directories[name] / "metrics.jsonl").read_text().splitlines()
  return [row for row in map(json.loads, lines) if row["kind"] == "train"][-1]


def test_every_variant_runs_and_reports_its_terms(variants):
  run, outcomes = variants
  names = ["data", "base", "max_ent_sam", "undo_alpha_0.5", "relearn_undo_alpha_0.5"]
  assert list(outcomes) == names
  terms = {name: set(last_row(run, name)) for name in names[1:-1]}
  assert terms["max_ent_sam"] >= {"forget_uniform_kl", "retain_kl"}
  assert terms["undo_alpha_0.5"] >= {"forward_kl", "activation_error"}
  assert outcomes["undo_alpha_0.5"]["reason"] == "step limit"
  assert outcomes["max_ent_sam"]["reason"] == "fixed budget"


def test_variants_cost_what_they_run(variants):
  _, outcomes = variants
  base, unlearned = (outcomes[name] for name in ("base", "max_ent_sam"))
  an_update = base["compute"]["flops"] / base["updates"] * 2  # Two parts a batch.
  # Two gradients, and the model from before reads one of the parts.
  expected = unlearned["updates"] * 2 * an_update * 7 / 6
  assert unlearned["compute"]["flops"] == expected


def test_distillation_changes_what_it_trains_and_nothing_else(variants):
  run, _ = variants
  teacher, student = params_of(run, "max_ent_sam"), params_of(run, "undo_alpha_0.5")
  for name in ("attention", "pre_mlp_norm"):
    for one, two in zip(
      *(jax.tree.leaves(tree["layers"][name]) for tree in (teacher, student)),
      strict=True,
    ):
      np.testing.assert_array_equal(one, two)
  np.testing.assert_array_equal(teacher["embedding"], student["embedding"])
  for one, two in zip(
    *(jax.tree.leaves(tree["layers"]["mlp"]) for tree in (teacher, student)),
    strict=True,
  ):
    np.testing.assert_array_equal(one[0], two[0])
    # Noise of alpha 0.5 halved it: it is far off after three updates.
    assert np.mean(np.abs(one[1] - two[1])) > 0.2 * np.mean(np.abs(one[1]))
