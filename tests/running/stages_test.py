"""Stages as they are run: the rows of a tokenizer file, the variants of the paper."""

import dataclasses
import json
import types
from typing import Any

import jax
import numpy as np
import pytest
import tokenizers as hf

from undo_jax import config as builders
from undo_jax import running, testing
from undo_jax.data import arithmetic as documents
from undo_jax.data import rows
from undo_jax.data.tokenizers import training as tokenizer_training
from undo_jax.distributed import sharding
from undo_jax.plan import checks, stages, translation
from undo_jax.plan.config import Stop, parse
from undo_jax.running import data, programs, stopping
from undo_jax.training.checkpointing import load_params
from undo_jax.utils.types import ConfigError


def test_rows_are_the_ids_of_the_tokenizers_file(tmp_path):
  texts = [problem.text for problem in documents.equations()]
  (tmp_path / "all.txt").write_text("\n".join(texts))
  output = tmp_path / "tokenizer"
  tokenizer_training.train(
    [str(tmp_path / "all.txt")], output, kind="bpe", vocab_size=262
  )
  config = builders.shipped("arithmetic:tiny")
  config.data.update(
    num_equations=50, num_evaluation=1, tokenizer=f"huggingface:{output}"
  )
  run = running.Run(
    tmp_path / "run",
    sharding.make_mesh(**config.mesh),
    checkpoint_every=1,
    evaluation_rows=1,
    replicas_at_once=None,
    stages=tuple(translation.plan(parse(config), 0)[:1]),
  )
  assert running.run_stages(run)["data"]["rows"] == {"retain": 50, "forget": 50}
  source = rows.source(run.directories["data"] / "rows", length=16, split="retain")
  upstream = hf.Tokenizer.from_file(str(output / "tokenizer.json"))
  known = {tuple(upstream.encode(text).ids): text for text in texts}
  for index in range(50):
    ids = source[index]["tokens"][source[index]["mask"] == 1].tolist()
    assert (ids[0], ids[-1]) == (2, 1)
    operation = known[tuple(ids[1:-1])].split()[1]
    assert operation in "+-"
    assert np.all(source[index]["tokens"][source[index]["mask"] == 0] == 0)


VARIANTS = {
  "data.num_equations": 64,
  "data.num_evaluation": 2,
  "model.num_layers": 2,
  "model.width": 16,
  "model.mlp_width": 32,
  "model.head_dim": 8,
  "model.scan_unroll": 1,
  "models.base.optimizer.num_steps": 2,
  "models.base.optimizer.warmup_steps": 0,
  "models.base.batch_size": 16,
  "models.max_ent.optimizer.num_steps": 2,
  "models.max_ent.batch_size": 16,
  "models.max_ent_sam.run": True,
  "models.max_ent_sam.options.retain_loss": "kl",
  "models.max_ent_sam.options.forget_weight": 0.8,
  "models.max_ent_rep_noise.run": True,
  "models.undo.frozen.teacher": "max_ent_sam",
  "models.undo.sweep.noise.alpha": (0.5,),
  "models.undo.optimizer.num_steps": 3,
  "models.undo.optimizer.warmup_steps": 0,
  "models.undo.optimizer.trainable": (
    ("layers/mlp/.*", (1,)),
    ("final_norm/.*", ()),
  ),
  "models.undo.batch_size": 16,
  "models.undo.options.activation_weight": 10.0,
  "models.undo.options.base_share": 0.5,
  "models.undo.options.base_choice": "switch",
  "models.undo.stop.evaluate_every": 1,
  "models.undo.stop.options.scores": ("addition_equation", "forget"),
  # Nothing recovers: every step is run.
  "models.undo.stop.options.tolerance": 0.0,
  "attacks.relearn.learning_rates": (1e-2,),
  "attacks.relearn.num_steps": 2,
  "attacks.relearn.evaluate_every": 1,
  "attacks.relearn.batch_size": 8,
  "attacks.relearn.trainable": (("layers/attention/.*", (0,)),),
  "attacks.relearn.noise.alpha": 0.3,
}
UNLEARNED = ("max_ent_sam", "max_ent_rep_noise")


def variant_run(workdir, **changes):
  config = builders.shipped("arithmetic:tiny")
  config.lock()
  config.update_from_flattened_dict(VARIANTS | changes)
  declared, mesh = parse(config), testing.mesh(1)
  checks.check(declared, dict(mesh.shape))
  plan = translation.plan(declared, 0)
  names = [*UNLEARNED, "relearn_undo_alpha_0.5"]
  return running.Run(
    workdir,
    mesh,
    checkpoint_every=100,
    evaluation_rows=64,
    replicas_at_once=None,
    stages=tuple(stages.needed(plan, names)),
  )


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
  run = variant_run(tmp_path_factory.mktemp("variants"))
  return run, running.run_stages(run)


def params_of(run, name):
  abstract = programs.abstract_params(run.stages[1].model, run.mesh)
  return load_params(run.directories[name] / "checkpoints", abstract)


def last_row(run, name):
  lines = (run.directories[name] / "metrics.jsonl").read_text().splitlines()
  return [row for row in map(json.loads, lines) if row["kind"] == "train"][-1]


def test_every_variant_runs_and_reports_its_terms(variants):
  run, outcomes = variants
  assert list(outcomes) == ["data", "base", *UNLEARNED, *list(outcomes)[-2:]]
  terms = {name: set(last_row(run, name)) for name in list(outcomes)[1:-1]}
  assert terms["max_ent_sam"] >= {"forget_uniform_kl", "retain_kl"}
  assert terms["max_ent_rep_noise"] >= {"forget_noise_distance", "forget_log_loss"}
  assert terms["undo_alpha_0.5"] >= {"forward_kl", "activation_error"}
  assert outcomes["undo_alpha_0.5"]["reason"] == "step limit"
  assert outcomes["max_ent_sam"]["reason"] == "fixed budget"


def test_variants_cost_what_they_run(variants):
  _, outcomes = variants
  flops = {name: outcomes[name]["compute"]["flops"] for name in UNLEARNED}
  plain = outcomes["base"]["compute"]["flops"] * 2  # Two parts a batch.
  # Two gradients, and the model from before reads one of the parts.
  assert flops["max_ent_sam"] == 2 * plain * 7 / 6
  assert flops["max_ent_rep_noise"] > plain


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


def test_the_attack_perturbs_and_trains_its_part_of_the_model(variants):
  run, outcomes = variants
  model = params_of(run, "undo_alpha_0.5")
  attacked = params_of_population(run, "relearn_undo_alpha_0.5")
  np.testing.assert_array_equal(attacked["embedding"][0], model["embedding"])
  kernel, start = (
    tree["layers"]["attention"]["query"]["kernel"] for tree in (attacked, model)
  )
  np.testing.assert_array_equal(kernel[0, 1], start[1])
  # Two updates of at most 0.01 after the model shrank by 0.3.
  shrunk = np.sum(kernel[0, 0] * start[0]) / np.sum(start[0] ** 2)
  assert 0.5 < shrunk < 0.9
  assert outcomes["relearn_undo_alpha_0.5"]["steps"] == [0, 1, 2]


@pytest.mark.parametrize("name", ["base", "max_ent_sam"])
def test_the_rows_of_a_batch_are_told_by_split(variants, name):
  run, _ = variants
  (stage,) = [stage for stage in run.stages if stage.name == name]
  batch = data.batches_of(run, stage)[1]
  parts = batch if "inputs" not in batch else {"": batch}
  targets = [row for part in parts.values() for row in part["targets"].tolist()]
  told = []
  for text in data.describe_batch(run, stage, 1).split("; "):
    split, _, numbers = text.partition(" rows ")
    source = rows.source(run.directories["data"] / "rows", length=16, split=split)
    told += [source[int(i)]["tokens"][1:].tolist() for i in numbers.split(", ")]
  assert sorted(told) == sorted(targets)
  assert name == "base" or told == targets


def params_of_population(run, name):
  abstract = programs.abstract_params(run.stages[1].model, run.mesh)
  grown = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(
      (1, *s.shape), s.dtype, sharding=sharding.replicated(run.mesh)
    ),
    abstract,
  )
  return load_params(run.directories[name] / "checkpoints", grown)


def test_a_stop_rule_on_an_unknown_score_ends_before_the_first_model(tmp_path):
  run = variant_run(tmp_path, **{"models.undo.stop.options.scores": ("english",)})
  with pytest.raises(
    ConfigError, match="among retain, forget, addition.*got 'english'"
  ):
    running.run_stages(run)
  assert run.done("data") and not run.done("base")


@pytest.mark.parametrize(
  ("task", "scores", "better"),
  [
    ("arithmetic", ("retain",), {"retain": 0.9}),
    ("arithmetic", ("addition_equation", "forget"), {"forget": 0.9}),
    ("arithmetic", ("english",), {"english": 0.1}),
    ("language", ("retain", "forget"), {"retain": 0.1, "forget": 0.1}),
  ],
)
def test_a_stop_rule_knows_which_way_a_score_gets_better(task, scores, better):
  teacher = dict.fromkeys(("retain", "forget", "addition_equation", "english"), 0.5)
  stop = Stop(
    rule="recovered",
    evaluate_every=1,
    options={"tolerance": 0.05, "relative": True, "scores": list(scores)},
  )
  student = next(
    stage
    for stage in translation.plan(parse(builders.shipped("arithmetic:tiny")), 0)
    if stage.name == "undo_alpha_0.3"
  )
  stage = dataclasses.replace(student, task=task, stop=stop)
  run: Any = types.SimpleNamespace(done=lambda name: {"scores": teacher})
  rule = stopping.stop_rule(run, stage)
  assert rule is not None
  worse = {name: 1.0 - value for name, value in better.items()}
  assert rule(teacher) and rule(teacher | better) and not rule(teacher | worse)
  assert stopping.stop_rule(run, dataclasses.replace(stage, stop=None)) is None
