"""What results.json says, read from run directories of made-up outcomes."""

import json

import pytest

from tests.frontier import made_up
from undo_jax import config as c
from undo_jax.frontier import reading, report, results
from undo_jax.hardware.flops import forward_flops
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError

TRAINED = {
  "scores": {"retain": 0.9, "forget": 0.1, "division_equation": 0.1},
  "updates": 3,
  "reason": "fixed budget",
  "compute": {"updates": 3, "tokens": 5, "flops": 7},
}
OUTCOMES = {
  "data": {},
  "train": TRAINED,
  "attack": {
    "learning_rates": [1e-3, 1e-2],
    "cost": {"updates": 1, "tokens": 512, "flops": 9},
    "steps": [0, 10],
    "scores": {
      "retain": [[0.9, 0.8], [0.9, 0.7]],
      "forget": [[0.1, 0.2], [0.1, 0.4]],
      "division_equation": [[0.1, 0.3], [0.1, 0.5]],
    },
  },
  "edit": {
    "strengths": [0.1, 0.5],
    "cost": {"updates": 0, "tokens": 0, "flops": 0},
    "steps": [0],
    "scores": {"retain": [[0.8], [0.7]], "forget": [[0.3], [None]]},
  },
  "ablate": {
    "scores": {"retain": 0.8, "forget": 0.2, "division_equation": 0.2},
    "whole": {"retain": 0.9, "forget": 0.7, "division_equation": 0.7},
    "updates": 0,
    "reason": "ablated",
    "compute": {"updates": 0, "tokens": 0, "flops": 0},
  },
}
TRAINING = ("the weights", "forget data")  # What attackers who train have.


def declared(name="arithmetic:tiny", **attacks):
  """Return a config, the attacks of which are as long as the made-up ones."""
  config = c.shipped(name)
  for attack, entry in attacks.items():
    config.attacks[attack] = entry(config.attacks.relearn)
  config.report.budgets = (10,)
  return config


def read(config, directory, changes=None):
  """Return the results of a run directory with made-up outcomes.

  Args:
    config: of the run.
    directory: where it is written.
    changes: outcomes of single stages.
  """
  parsed = parse(config)
  plans = {}
  for seed in parsed.seeds:
    plans[seed] = {}
    for stage in translation.plan(parsed, seed):
      where = f"{stage.name}-{seed}"
      plans[seed][stage.name] = where
      outcome = OUTCOMES[stage.KIND] | (changes or {}).get(stage.name, {})
      folder = directory / "stages" / where
      folder.mkdir(parents=True)
      described = stages.to_json(stage) | {"inputs": {}}
      (folder / "config.json").write_text(json.dumps(described))
      (folder / "done.json").write_text(json.dumps(outcome))
  reading.write_plan(files.path(directory), plans)
  return reading.read(files.path(directory), parsed)


def test_every_model_has_its_attacks_beside_its_scores(tmp_path):
  config = declared(lora=lambda entry: c.lora(entry, rank=4, alpha=3.0))
  made = read(config, tmp_path)
  assert (made.schema, made.task, made.seeds) == (3, "arithmetic", (0,))
  assert made.metrics["forget"].higher_is == "more capable"
  assert made.attacks["relearn"] == made_up.adversary(assumes=TRAINING)
  assert made.attacks["lora"] == made_up.adversary(
    "LoRA", "low-rank adapters (LoRA, rank 4)", assumes=TRAINING
  )
  assert len(made.models) == 10
  for model in made.models.values():
    (run,) = model.runs
    assert (run.before.retain, run.before.forget) == (0.9, 0.1)
    assert run.before.by_task == {"division_equation": 0.1}
    assert list(run.attacks) == ["relearn", "lora"] and run.ablation is None
    for under in run.attacks.values():
      assert under.worst_forget == under.forget_at_step == (0.1, 0.4)
      assert (under.tokens_per_update, under.flops_per_update) == (512, 9)
      assert under.worst_learning_rate == (1e-3, 1e-2)
      assert under.retain == (0.9, 0.7)
      assert under.by_task == {"division_equation": (0.1, 0.5)}
      assert under.forget_by_learning_rate == ((0.1, 0.2), (0.1, 0.4))


def test_the_seeds_of_an_attack_are_one_attack(tmp_path):
  config = declared()
  config.attacks.relearn.seeds = (4, 9)
  other = OUTCOMES["attack"]["scores"] | {"forget": [[0.1, 0.8], [0.1, 0.2]]}
  changes = {f"relearn_seed9_{name}": {"scores": other} for name in ("base", "max_ent")}
  made = read(config, tmp_path, changes)
  under = made.models["base"].runs[0].attacks["relearn"]
  assert under.forget == (((0.1, 0.2), (0.1, 0.4)), ((0.1, 0.8), (0.1, 0.2)))
  assert under.worst_forget == (0.1, 0.8)
  assert under.worst_learning_rate == (1e-3, 1e-3)
  # At the seed and the rate of the worst score.
  assert under.retain == (0.9, 0.8)
  assert under.by_task == {"division_equation": (0.1, 0.3)}
  means = [row[1] for row in under.forget_by_learning_rate]
  assert means == pytest.approx([0.5, 0.3])
  untouched = made.models["rmu"].runs[0].attacks["relearn"]
  assert untouched.worst_forget == (0.1, 0.4)


def test_what_must_be_equal_to_compare_says_no_path_and_no_seed(tmp_path):
  one, other = declared(), declared()
  other.seeds = (5,)
  other.models.max_ent.optimizer.num_steps = 61
  first, second = (read(c, tmp_path / n) for c, n in ((one, "a"), (other, "b")))
  assert first.protocol == second.protocol
  assert "test_fraction" in first.protocol["data"]["english"]
  assert "paths" not in first.protocol["data"]["english"]
  relearn = first.protocol["attacks"]["relearn"]
  assert relearn["mixture"] == {"attack": 1.0}
  recipes = [{n: m.recipe for n, m in made.models.items()} for made in (first, second)]
  changed = {name for name in recipes[0] if recipes[0][name] != recipes[1][name]}
  assert changed == {n for n in recipes[0] if n.startswith(("max_ent", "undo", "unl"))}
  other.attacks.relearn.batch_size = 16
  assert read(other, tmp_path / "c").protocol != first.protocol


def test_the_page_is_made_from_what_was_read(tmp_path):
  made = read(declared(), tmp_path)
  again = results.from_json(json.loads(json.dumps(results.to_json(made))), path="x")
  assert again == made
  page = report.page(made)
  for label in ("data filtering", "MaxEnt", "unlearn and distill", "UNDO α = 0.7"):
    assert f"</span>{label}</th>" in page


def test_an_attack_says_what_it_trains_and_what_it_does_before(tmp_path):
  config = declared()
  config.attacks.relearn.update(
    trainable=(("layers/mlp/.*", ()),), noise={"alpha": 0.1}, label="a part"
  )
  made = read(config, tmp_path)
  assert made.attacks == {
    "relearn": made_up.adversary(
      "a part", noise=0.1, paths=("layers/mlp/.*",), assumes=TRAINING
    )
  }


def test_compute_is_that_of_all_that_counts_on_the_way(tmp_path):
  made = read(declared(), tmp_path)
  costs = {name: model.runs[0].compute for name, model in made.models.items()}
  assert costs["base"].flops == 0
  assert costs["data_filtering"].fraction_of_filtered == 1.0
  assert (costs["max_ent"].updates, costs["max_ent"].flops) == (3, 7)
  # The unlearned teacher's too.
  assert (costs["undo_alpha_0.5"].updates, costs["undo_alpha_0.5"].flops) == (6, 14)
  assert costs["undo_alpha_0.5"].fraction_of_filtered == 2.0
  config = declared()
  config.references.filtered = None
  made = read(config, tmp_path / "without")
  assert made.models["undo_alpha_0.5"].runs[0].compute.fraction_of_filtered is None


def test_an_ablated_model_says_how_it_was_trained_and_what_it_was(tmp_path):
  made = read(declared("routing_arithmetic:tiny"), tmp_path)
  assert not any(name.endswith("_whole") for name in made.models)
  assert made.models["base"].runs[0].ablation is None
  for name in ("routed", "routed_distillation_alpha_0.5"):
    (run,) = made.models[name].runs
    assert (run.before.retain, run.before.forget) == (0.8, 0.2)
    assert run.ablation == results.Ablation(
      before=results.Scores(retain=0.9, forget=0.7, by_task={"division_equation": 0.7}),
      mlp_units=96,
      kv_heads=0,
    )
    assert run.stopped == results.Stopped(reason="fixed budget", updates=3)
    # Of its own training alone: the base costs nothing.
    assert (run.compute.updates, run.compute.flops) == (3, 7)


def test_a_score_that_was_lost_is_none_and_never_the_worst(tmp_path):
  scores = OUTCOMES["attack"]["scores"]
  scores = scores | {"forget": [[0.1, 0.2], [0.1, None]]}
  lost = {"relearn_rmu": {"scores": scores}, "rmu": {"scores": {**TRAINED["scores"]}}}
  lost["rmu"]["scores"]["retain"] = None
  made = read(declared(), tmp_path, lost)
  (run,) = made.models["rmu"].runs
  assert run.before.retain is None
  under = run.attacks["relearn"]
  assert under.forget_by_learning_rate == ((0.1, 0.2), (0.1, None))
  assert (under.worst_forget, under.retain) == ((0.1, 0.2), (0.9, 0.8))
  assert "the learning rate 0.01 diverged (seed 0)" in report.page(made)


def test_seeds_of_one_run_are_the_runs_of_its_models(tmp_path):
  config = declared()
  config.seeds = (4, 2)
  made = read(config, tmp_path, {"max_ent": {"updates": 9}})
  assert made.seeds == (4, 2)
  for model in made.models.values():
    assert [run.seed for run in model.runs] == [4, 2]
    assert [run.directory[-2:] for run in model.runs] == ["-4", "-2"]


def test_a_stage_of_another_version_is_refused(tmp_path):
  config = declared()
  read(config, tmp_path)
  path = tmp_path / "stages" / "base-0" / "config.json"
  stage = json.loads(path.read_text()) | {"version": 2}
  path.write_text(json.dumps(stage))
  with pytest.raises(ConfigError, match="base-0/config.json: expected a stage of vers"):
    reading.read(files.path(tmp_path), parse(config))


def test_edits_stand_beside_the_attacks(tmp_path):
  config = declared()
  for name in ("pruning", "interpolation_to_base"):
    config.attacks[name].run = True
    config.attacks[name].models = ("max_ent",)
  config.attacks.pruning.options.scope = "all"
  made = read(config, tmp_path)
  for name, base in (("pruning", False), ("interpolation_to_base", True)):
    attack, under = made.attacks[name], made.models["max_ent"].runs[0].attacks[name]
    assert attack.is_edit and attack.has_base == base
    assert attack.assumes == ("the weights", "the base's weights")[: 1 + base]
    assert under.is_edit and under.learning_rates == (0.1, 0.5)
    assert (under.worst_forget, under.worst_learning_rate) == ((0.3,), (0.1,))
    assert (under.retain, under.flops_per_update) == ((0.8,), 0)
  assert "all matrices together" in made.attacks["pruning"].trains
  assert made.protocol["attacks"]["pruning"]["strengths"] == [0.1, 0.2, 0.3, 0.4, 0.5]
  assert results.from_json(results.to_json(made), path="results.json") == made


@pytest.mark.parametrize("updates, rows", [(2, 256), (5, 480 + 160), (10, 600 + 200)])
def test_a_student_of_selected_rows_pays_for_those_that_it_has_read(updates, rows):
  config = c.shipped("arithmetic:tiny")
  config.selections.few = c.selection(rows=4)
  config.mixtures.selected = c.selected("few", config.mixtures.pretrain)
  config.models.masked = c.undo(
    teacher="base",
    alphas=(0.6,),
    mixture="selected",
    optimizer=c.optimizer(num_steps=200, learning_rate=2e-3),
    batch_size=128,
    predictions=c.teacher_predictions(keep=True),
  )
  plan = translation.plan(parse(config), 0)
  spent = lambda flops: {"updates": 0, "tokens": 0, "flops": flops}  # noqa: E731
  sizes = {"retain": 1000, "forget": 1000}
  outcomes = {
    "data": {"rows": sizes | {"attack": 9}},
    "selection_few": {
      "rows": sizes,
      "selected": {"retain": 600, "forget": 200},
      "compute": spent(5),
    },
    "masked_alpha_0.6": {"updates": updates, "compute": spent(7)},
  }
  # Of four rows of the stream that are left three are of the split retain.
  a_row = forward_flops(plan[1].model, 16)
  cost = reading.cost(plan, outcomes, "masked_alpha_0.6")
  assert cost.flops == 12 + rows * a_row
