"""What determines a stage's identity, and what a model is made from."""

import json

import pytest
import tokenizers as hf
from tokenizers import models

from configs import wmdp
from tests.plan.plans import (
  ABLATED,
  ATTACKS,
  DISTILLED,
  ROUTING,
  STUDENTS,
  TINY,
  attacks,
  by_name,
  changed,
  identities,
  overridden,
  plan,
  routed,
)
from undo_jax import config as builders
from undo_jax.data import tokenizers
from undo_jax.plan import lineages, stages, translation
from undo_jax.plan.config import parse
from undo_jax.utils.types import ConfigError


def test_the_plan_holds_every_model_and_attacks_each():
  names = TINY[1 : TINY.index("relearn_base")]
  assert names == [
    "base",
    "data_filtering",
    "max_ent",
    "grad_diff",
    "rmu",
    "oracle_matching",
    "undo_alpha_0.3",
    "undo_alpha_0.5",
    "undo_alpha_0.7",
    "unlearn_and_distill",
  ]
  assert attacks(*names) == ATTACKS


def test_seeds_share_what_no_stream_of_theirs_changes():
  fixed = {f"streams__{name}": 5 for name in ("data", "eval", "init")}
  one, other = (stages.identities(plan(seed=seed, **fixed)) for seed in (0, 1))
  same = {name for name in one if one[name] == other[name]}
  assert same == {"data", "base", "data_filtering", "grad_diff", "max_ent"}


@pytest.mark.parametrize("field", ["checkpoint_every", "mesh__fsdp"])
def test_how_it_runs_changes_nothing(field):
  assert changed(**{field: 7}) == set()


def test_each_seed_of_an_attack_is_a_stage_that_no_other_changes():
  plain = identities()
  two, three = (identities(attacks__relearn__seeds=s) for s in ((0, 7), (0, 7, 9)))
  models = {name: value for name, value in plain.items() if name not in ATTACKS}
  assert models.items() <= two.items() <= three.items()
  assert len(two) == len(models) + 2 * len(ATTACKS)
  assert len(set(three.values())) == len(three) and not ATTACKS & set(three)
  made = by_name(attacks__relearn__seeds=(0, 7))
  one, other = (made[f"relearn_seed{seed}_base"] for seed in (0, 7))
  assert one.attack == other.attack == "relearn" and one.seeds != other.seeds
  # Seeds within the run's: another run has others.
  again = plan(seed=1, attacks__relearn__seeds=(0,))[-1]
  assert again.seeds not in (one.seeds, other.seeds)


def test_rules_alone_are_noise_and_their_absence_changes_no_identity():
  rules = (("embedding", (), 0.4),)
  stage = by_name(models__undo__sweep={}, models__undo__noise__rules=rules)["undo"]
  assert stage.noise is not None and stage.noise.rules == rules
  plain = by_name()["undo_alpha_0.3"]
  assert stages.to_json(plain)["noise"] == {"alpha": 0.3, "beta": 0.1}
  assert changed(models__undo__noise__rules=rules) == {
    name for name in TINY if "undo_" in name
  }


OTHERS = ("task_vector", "weight_distortion", "pruned", "max_ent_attributed")


def test_what_other_ways_to_forget_change_of_a_stage_and_of_no_other():
  running = {f"models__{name}__run": True for name in OTHERS}
  planned, plain, known = by_name(**running), identities(), identities(**running)
  assert plain.items() <= known.items()
  vector, distorted = planned["task_vector"], planned["weight_distortion"]
  assert vector.parts == {"batch": {"forget": 1.0}} and vector.init == "base"
  assert vector.optimizer.displacement == -1.0 and vector.noise is None
  assert distorted.parts == {"batch": {"retain": 1.0}} and distorted.seeds["noise"] == 0
  assert (distorted.noise.alpha, distorted.noise.std) == (0.0, 0.02)
  pruned = planned["pruned_share_0.6"]
  assert (pruned.noise.alpha, pruned.noise.beta) == (1.0, 0.0)
  assert pruned.noise_shape.by == "magnitude" and pruned.noise_shape.share == 0.6
  assert pruned.saliency is None and pruned.frozen == {"teacher": "max_ent"}
  masked = planned["max_ent_attributed"]
  assert masked.trained.curvature == 1e-3 and masked.trained.share == 0.8
  assert planned[masked.trained_saliency].power == 1
  for name in OTHERS[:2]:
    again = stages.from_json(stages.to_json(planned[name]), path="config.json")
    assert again == planned[name]


def test_a_prompt_is_its_ids_behind_what_begins_a_document():
  running = {"models__prompted__run": True, "models__prompted__sweep": {}}
  planned = by_name("wmdp:tiny", **running)
  stage = planned["prompted"]
  tokenizer = tokenizers.make("words:facts")
  assert tokenizer.decode(stage.options["prompt"]) == wmdp.PROMPT
  assert stage.options["prompt_after"] == tokenizer.bos_id == 2
  assert stage.frozen == {"teacher": "base"} and stage.init == "base"
  plain = identities("wmdp:tiny")
  assert plain.items() <= identities("wmdp:tiny", **running).items()


def test_layers_forget_fold_after_fold_and_keep_the_later_ones():
  running = {"models__layered_max_ent__run": True}
  planned, plain, known = by_name(**running), identities(), identities(**running)
  assert plain.items() <= known.items()
  one, two, last = (planned[f"layered_max_ent{end}"] for end in ("_1", "_2", ""))
  assert [stage.init for stage in (one, two, last)] == ["base", one.name, two.name]
  assert one.parts == {
    "forget": {"forget:folds_1_to_1_of_3": 1.0},
    "retain": {"retain": 0.5, "forget:folds_2_to_3_of_3": 0.5},
  }
  assert two.parts == {
    "forget": {"forget:folds_1_to_2_of_3": 1.0},
    "retain": {"retain": 0.5, "forget:folds_3_to_3_of_3": 0.5},
  }
  assert last.parts == planned["max_ent"].parts
  assert [s.name for s in lineages.lineage(list(planned.values()), last.name)] == [
    *(last.name, two.name, one.name)
  ]
  assert set(planned) - set(plain) == {
    *(one.name, two.name, last.name, "relearn_layered_max_ent")
  }
  # One fold is the method itself.
  running |= {f"models__{stage.name}__folds__count": 1 for stage in (one, two, last)}
  running |= {
    f"models__{stage.name}__folds__forgotten": 1 for stage in (one, two, last)
  }
  assert identities(**running)[one.name] == plain["max_ent"]


def shaped_plan(**saliency):
  config = overridden(models__undo__sweep={"noise": {"alpha": (0.3,)}})
  undo = config.models.undo
  shares = (0.3, 0.5)
  config.models.shaped = builders.shaped(undo, shares=shares, saliency=saliency)
  config.models.other = builders.shaped(undo, shares=(0.5,), saliency={"low": 0.2})
  config.models.control = builders.shaped(undo, shares=(0.5,), by="random")
  return translation.plan(parse(config), 0)


def test_shaped_models_share_the_squared_gradients_that_they_read():
  made = shaped_plan()
  names = [stage.name for stage in made]
  by_model = dict(zip(names, made, strict=True))
  first = names.index("saliency_base")
  assert names.count("saliency_base") == 1 and names[first + 1] == "shaped_share_0.3"
  for name in ("shaped_share_0.3", "shaped_share_0.5", "other_share_0.5"):
    assert by_model[name].saliency == "saliency_base"
    assert by_model[name].noise_shape.by == "saliency"
  assert by_model["shaped_share_0.3"].noise_shape.share == 0.3
  assert by_model["other_share_0.5"].noise_shape.low == 0.2
  assert by_model["shaped_share_0.5"].noise.alpha == 1.0
  control = by_model["control_share_0.5"]
  assert control.saliency is None and control.noise_shape.by == "random"
  squares = by_model["saliency_base"]
  assert squares.inputs == {"data": "data", "model": "base"}
  assert squares.parts == {"forget": {"forget": 1.0}, "retain": {"retain": 1.0}}
  again = stages.from_json(stages.to_json(squares), path="config.json")
  assert again == squares


def test_squared_gradients_of_other_batches_are_another_stage():
  def known(**saliency):
    made = shaped_plan(**saliency)
    return {s.name: s for s in made}, stages.identities(made)

  (plain, before), (other, after) = known(), known(num_batches=7)
  assert other["saliency_base"].num_batches == 7
  assert other["other_share_0.5"].saliency == "saliency_base_2"
  # Names are no part of what determines a stage.
  assert after["saliency_base_2"] == before["saliency_base"]
  assert after["other_share_0.5"] == before["other_share_0.5"]
  assert after["shaped_share_0.3"] != before["shaped_share_0.3"]
  assert after["undo_alpha_0.3"] == before["undo_alpha_0.3"]
  assert "noise_shape" not in stages.to_json(plain["undo_alpha_0.3"])


KEEP = {"models__undo__teacher_predictions__keep": True}


def test_students_of_one_teacher_share_its_predictions():
  plain, made, known = identities(), by_name(**KEEP), identities(**KEEP)
  names = list(made)
  first = names.index("predictions_max_ent")
  assert names[first + 1] == "undo_alpha_0.3" and set(made) - set(plain) == {
    "predictions_max_ent"
  }
  kept = made["predictions_max_ent"]
  assert kept.splits == ("forget", "retain") and kept.kept.top_k == 0
  assert kept.inputs == {"data": "data", "model": "max_ent"}
  assert stages.from_json(stages.to_json(kept), path="config.json") == kept
  readers = {n for n, s in made.items() if getattr(s, "predictions", None)}
  assert readers == {*STUDENTS, "unlearn_and_distill"}
  assert all(made[name].frozen == {} for name in readers)
  # What reads none is what it was before there were any.
  changed_by = {name for name in plain if known[name] != plain[name]}
  assert changed_by == readers | attacks(*readers)
  assert not {"predictions", "kept"} & set(stages.to_json(made["oracle_matching"]))


@pytest.mark.parametrize(
  ("changes", "is_same"),
  [
    ({"batch_size": 64, "optimizer__num_steps": 70, "order_stream": "data"}, True),
    ({"options__divergence": "jsd", "options__teacher_top_k": 32}, True),
    ({"noise__beta": 0.3}, True),
    ({"options__teacher_top_k": 8}, False),
    ({"teacher_predictions__dtype": "float16"}, False),
    ({"frozen__teacher": "grad_diff"}, False),
    ({"mixture__batch": "data_filtering"}, False),
  ],
)
def test_predictions_are_those_of_rows_whatever_is_trained_on_them(changes, is_same):
  named = {f"models__undo__{name}": value for name, value in changes.items()}
  made = {s.name: s for s in plan(**KEEP, **named)}
  known = stages.identities(list(made.values()))
  mine = known[made["undo_alpha_0.3"].predictions]
  assert (mine == identities(**KEEP)["predictions_max_ent"]) == is_same


def test_a_student_that_asks_for_more_tokens_has_a_stage_of_its_own():
  config = overridden(**KEEP)
  config.models.unlearn_and_distill.options.teacher_top_k = 4
  made = {s.name: s for s in translation.plan(parse(config), 0)}
  assert made["undo_alpha_0.3"].predictions == "predictions_max_ent"
  assert made["unlearn_and_distill"].predictions == "predictions_max_ent_2"
  assert made["predictions_max_ent_2"].kept.top_k == 4


def test_noise_again_is_for_what_is_noised_first():
  config = overridden(models__undo__noise__again_every=50)
  config.models.undo.noise.again_times = 2
  made = {s.name: s for s in translation.plan(parse(config), 0)}
  again = made["undo_alpha_0.3"].noise_again
  assert [n for n in range(900) if again.is_due(n)] == [50, 100]
  assert made["unlearn_and_distill"].noise_again is None
  names = {name for name in TINY if "undo_" in name}
  assert changed(models__undo__noise__again_every=50) == names


def test_a_schedule_that_is_held_before_it_decays():
  config = overridden()
  rates = {"num_steps": 800, "learning_rate": 1e-3, "decay_steps": 200}
  config.models.undo.optimizer = builders.warmup_stable_decay(**rates)
  made = {s.name: s for s in translation.plan(parse(config), 0)}
  assert made["undo_alpha_0.3"].optimizer.decay_steps == 200
  json_of = stages.to_json(made["max_ent"])["optimizer"]
  assert not {"decay_steps", "decay"} & set(json_of)


def test_an_attack_setting_changes_the_attacks_only():
  assert changed(attacks__relearn__num_steps=100) == ATTACKS


def test_what_the_adversary_does_first_or_leaves_out_changes_the_attacks():
  assert changed(attacks__relearn__noise__alpha=0.1) == ATTACKS
  assert changed(attacks__relearn__warmup_steps=1) == ATTACKS
  assert changed(attacks__relearn__trainable=(("embedding", ()),)) == ATTACKS
  assert changed(attacks__relearn__noise__beta=0.5) == set()  # Alpha is 0: no noise.
  assert plan()[-1].noise is None


def test_several_attacks_stand_beside_each_other():
  config = overridden()
  config.attacks.lora = builders.lora(config.attacks.relearn, rank=2)
  config.attacks.mixed = builders.like(config.attacks.relearn, models=("base", "rmu"))
  made = translation.plan(parse(config), 0)
  names = [stage.name for stage in made if isinstance(stage, stages.AttackStage)]
  assert len(names) == 2 * len(ATTACKS) + 2
  assert names[-2:] == ["mixed_base", "mixed_rmu"]
  known = stages.identities(made)
  assert {name: known[name] for name in TINY} == identities()
  assert known["mixed_base"] == known["relearn_base"]  # The same adversary.
  assert known["lora_base"] != known["relearn_base"]


@pytest.mark.parametrize(
  "change",
  [
    {"rho": 0.1},
    {"optimizer__trainable": (("embedding", ()),)},
    {"optimizer__name": "muon"},
    {"options__forget_weight": 0.5},
    {"options__retain_loss": "kl"},
    {"streams__data": 3},
  ],
)
def test_how_a_method_trains_changes_it(change):
  only = {"grad_diff", "relearn_grad_diff"}
  change = {f"models__grad_diff__{name}": value for name, value in change.items()}
  assert changed(**change) == only


def test_models_from_before_unlearning_are_inputs_where_they_are_read():
  planned = by_name(
    models__max_ent__options__retain_loss="kl", models__undo__options__base_share=0.1
  )
  assert planned["max_ent"].inputs["reference"] == "base"
  assert planned["rmu"].inputs["reference"] == "base"
  assert "reference" not in planned["grad_diff"].inputs
  for name in STUDENTS:
    assert planned[name].inputs["base"] == "base"
  assert "base" not in planned["oracle_matching"].inputs


def test_a_random_student_trains_everything():
  pairs = (("layers/mlp/.*", (0,)),)
  planned = by_name(models__undo__optimizer__trainable=pairs)
  assert planned["undo_alpha_0.5"].optimizer.trainable == pairs
  assert planned["unlearn_and_distill"].optimizer.trainable == ()


def test_rmu_trains_the_down_projections_of_its_layers():
  trained = by_name()["rmu"].optimizer.trainable
  assert trained == (("layers/mlp/down/kernel", (0, 1)),)


def test_the_scores_of_the_stop_rule_change_the_students():
  change = {"models__undo__stop__options__scores": ("retain", "forget")}
  assert changed(**change) == STUDENTS | attacks(*STUDENTS)


def test_a_fixed_budget_is_no_rule():
  planned = by_name(models__undo__stop__rule=None)
  assert planned["undo_alpha_0.5"].stop is None and planned["base"].stop is None


def test_a_method_changes_itself_and_what_is_made_from_it():
  only = {"grad_diff", "relearn_grad_diff"}
  assert changed(models__grad_diff__optimizer__learning_rate=1e-3) == only
  made = {"max_ent", *STUDENTS}
  change = {"models__max_ent__optimizer__learning_rate": 1e-3}
  assert changed(**change) == made | attacks(*made)


def test_beta_changes_the_noised_students_only():
  students = STUDENTS - {"unlearn_and_distill"}
  assert changed(models__undo__noise__beta=0.2) == students | attacks(*students)


@pytest.mark.parametrize(
  "stream, first",
  [
    ("attack", ATTACKS),
    ("distill_data", {"oracle_matching", *STUDENTS}),
    ("eval", set(TINY)),
  ],
)
def test_a_stream_redraws_its_own_stages(stream, first):
  made = first | {f"relearn_{name}" for name in first if not name.startswith("relearn")}
  assert changed(**{f"streams__{stream}": 9}) == made & set(TINY)


def test_a_tokenizer_without_a_file_adds_nothing_to_the_data():
  config = overridden()
  assert set(translation.plan(parse(config), 0)[0].data) == set(config.data)


def test_the_tokenizers_content_and_not_its_path_changes_everything(tmp_path):
  def write(directory, *tokens, eos="a"):
    directory.mkdir(exist_ok=True)
    vocab = {token: index for index, token in enumerate(tokens)}
    hf.Tokenizer(models.BPE(vocab, [])).save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text(json.dumps({"eos_token_id": vocab[eos]}))

  def current():
    return identities(data__tokenizer=f"huggingface:{tmp_path / 'used'}")

  write(tmp_path / "used", "a", "b", "c")
  first = current()
  assert list(first) == TINY
  write(tmp_path / "used", "a", "b", "d")  # Another vocabulary of the same size.
  second = current()
  assert not set(first.values()) & set(second.values())
  write(tmp_path / "used", "a", "b", "d", eos="b")  # The same file, another EOS.
  assert not set(second.values()) & set(current().values())
  write(tmp_path / "used", "a", "b", "c")
  assert current() == first


def test_an_entry_that_follows_another_changes_alone_or_with_it():
  filtering = {"data_filtering", "relearn_data_filtering"}
  made = filtering | {"oracle_matching", "relearn_oracle_matching"}
  assert changed(models__data_filtering__optimizer__num_steps=700) == made
  random_student = {"unlearn_and_distill", "relearn_unlearn_and_distill"}
  change = {"models__unlearn_and_distill__optimizer__weight_decay": 0.1}
  assert changed(**change) == random_student
  change = {"models__unlearn_and_distill__optimizer__weight_decay": 0.0}
  assert changed(**change) == set()  # As in undo.
  planned = by_name(models__base__optimizer__num_steps=700)
  assert planned["data_filtering"].optimizer.num_steps == 700


def test_a_mixture_changes_what_reads_it():
  made = {"oracle_matching", *STUDENTS}
  assert changed(mixtures__distill__forget=0.2) == made | attacks(*made)
  assert changed(mixtures__attack__retain=0.2) == ATTACKS


def test_the_order_of_a_mixtures_splits_is_the_tasks():
  config = overridden()
  config.mixtures.pretrain = {"forget": 0.5, "retain": 0.5}
  made = translation.plan(parse(config), 0)
  assert stages.identities(made) == identities()
  assert list(made[1].parts["batch"]) == ["retain", "forget"]


def test_the_attacker_gets_forget_data_and_filtering_only_retain_data():
  planned = by_name()
  assert planned["data_filtering"].parts == {"batch": {"retain": 1.0}}
  assert planned["base"].parts == {"batch": {"retain": 0.5, "forget": 0.5}}
  for name in ATTACKS:
    assert planned[name].parts == {"batch": {"attack": 1.0}}


def test_the_order_of_the_table_does_not_matter_for_what_needs_what():
  config = overridden()
  backwards = builders.block(**dict(reversed(list(config.models.items()))))
  config.models = backwards
  made = translation.plan(parse(config), 0)
  known = stages.identities(made)
  assert {name: known[name] for name in TINY} == identities()
  names = [stage.name for stage in made]
  assert names.index("base") < names.index("max_ent") < names.index("undo_alpha_0.3")


def test_what_entries_need_must_be_there_and_in_no_circle():
  config = overridden(models__max_ent__start="undo_alpha_0.3")
  message = "no circle of needs, got max_ent -> undo_alpha_0.3 -> max_ent"
  with pytest.raises(ConfigError, match=message):
    translation.plan(parse(config), 0)
  config = overridden(models__rmu__start="bose")
  message = r"config.models.rmu.start: expected one of base, .*, got 'bose'; set it by"
  with pytest.raises(ConfigError, match=message):
    translation.plan(parse(config), 0)
  config = overridden(models__undo__sweep__frozen={"teacher": ("bose",)})
  with pytest.raises(ConfigError, match=r"models.undo\.frozen.*one of .* 'bose'"):
    translation.plan(parse(config), 0)


def test_a_given_checkpoint_stands_where_a_model_would_be_trained():
  config = overridden(models__base__checkpoint="somewhere")
  made = translation.plan(parse(config), 0, {"base": "abc"})
  base = made[1]
  assert isinstance(base, stages.GivenStage) and base.fingerprint == "abc"
  assert {s.name for s in made} == set(TINY)
  other = translation.plan(parse(config), 0, {"base": "abd"})
  first, second = stages.identities(made), stages.identities(other)
  assert first["data_filtering"] == second["data_filtering"]
  assert first["max_ent"] != second["max_ent"]


# ---- Gradient routing.


def test_routed_models_come_beside_the_others():
  made = plan(ROUTING, **DISTILLED)
  others = {"base", "data_filtering", "max_ent", *STUDENTS}
  added = {*ABLATED, "routed_undo_alpha_0.3"}
  assert {model.name for model in lineages.models(made)} == others | added
  whole = {f"{name}_whole" for name in ABLATED}
  models = others | added
  assert {s.name for s in made} == {"data", *models, *whole, *attacks(*models)}


def test_routed_pretraining_is_that_of_the_base_with_another_objective():
  planned = routed()
  base, whole = (stages.to_json(planned[name]) for name in ("base", "routed_whole"))
  differing = {name for name in base if base[name] != whole[name]}
  own = {"name", "objective", "options", "optimizer", "reserve", "labels", "is_counted"}
  assert differing == own
  forget = ["forget", "attack"]
  assert whole["labels"] == {"share": 1.0, "forget": forget, "is_filter": False}
  assert whole["reserve"] == {"mlp_units": 96, "kv_heads": 0, "old_target": 0.0}
  control = stages.to_json(planned["routed_control_whole"])
  reserve = {"mlp_units": 96, "kv_heads": 0, "old_target": 1.0}
  assert control == whole | {"name": "routed_control_whole", "reserve": reserve}
  assert planned["routed"].inputs == {"data": "data", "model": "routed_whole"}
  assert planned["routed"].reserve == planned["routed_whole"].reserve


def test_masked_parts_keep_the_mixture():
  mixture = {"mixtures__pretrain__retain": 0.75, "mixtures__pretrain__forget": 0.25}
  full = routed(**mixture)["sgtm_whole"]
  assert full.parts == {"forget": {"forget": 0.25}, "retain": {"retain": 0.75}}
  assert full.rows == {"forget": 32, "retain": 96}
  planned = by_name("routing_arithmetic:labelled", **mixture)
  partial = planned["sgtm_whole"]
  assert partial.parts == {
    "forget": {"forget:labelled": 0.25},
    "retain": {"retain:labelled": 0.75},
    "unlabelled": {"retain:unlabelled": 0.75, "forget:unlabelled": 0.25},
  }
  assert partial.rows == {"forget": 8, "retain": 24, "unlabelled": 96}
  filtered = planned["data_filtering_labelled"]
  # What is labelled forget is left out: a quarter of a quarter.
  assert filtered.parts == {"batch": {"retain": 0.75, "forget:unlabelled": 0.1875}}
  assert filtered.labels.is_filter and filtered.sorts == "base"
  assert "data_filtering_labelled" not in routed()


def test_what_an_entry_reserves_changes_it_and_what_is_made_from_it():
  def differing(**changes):
    before, after = (
      stages.identities([*routed(**more).values()]) for more in ({}, changes)
    )
    return {name for name in before if before[name] != after[name]} - ATTACKS

  def with_attacks(*names):
    made = {f"{name}_whole" for name in names if name in ABLATED}
    return {*names, *made, *attacks(*names)}

  undone = "routed_undo_alpha_0.3"
  change = {"models__routed__reserve__mlp_units": 9}
  assert differing(**change) == with_attacks("routed", undone)
  change = {"models__routed__reserve__old_target": -0.5}
  assert differing(**change) == with_attacks("routed", undone)
  change = {"models__sgtm__optimizer__num_steps": 700}
  assert differing(**change) == with_attacks("sgtm")
  change = {"models__routed_distillation__options__coherence_weight": 0.5}
  names = {name for name in ABLATED if name.startswith("routed_distillation")}
  assert differing(**change) == with_attacks(*names)


def test_a_routed_teacher_and_the_base_are_where_students_come_from():
  planned = routed()
  student, undo = planned["routed_undo_alpha_0.3"], planned["undo_alpha_0.3"]
  assert student.inputs == {"data": "data", "init": "routed", "teacher": "routed"}
  names = {"name": "", "init": "", "frozen": {}}
  assert stages.to_json(student) | names == stages.to_json(undo) | names
  masked = planned["sgtm_distillation_alpha_1_whole"]
  assert masked.rows == {"forget": 64, "retain": 64}
  assert masked.objective == "sgtm_forward_kl"
  stage = planned["routed_distillation_alpha_1_whole"]
  assert stage.inputs == {"data": "data", "init": "base", "teacher": "base"}
  assert (stage.noise.alpha, stage.noise.beta, stage.stop) == (1.0, 0.1, undo.stop)

  def lineage(name):
    return [stage.name for stage in lineages.lineage([*planned.values()], name)]

  assert lineage("routed") == ["routed_whole"]
  assert sorted(lineage("routed_undo_alpha_0.3")) == [
    "routed_undo_alpha_0.3",
    "routed_whole",
  ]
  name = "routed_distillation_alpha_1"
  assert lineage(name) == [f"{name}_whole"]


def test_who_is_not_attacked_is_said_by_each_entry_alone():
  config = builders.shipped("frontier:tiny")
  planned = translation.plan(parse(config), 0)
  attacked = {s.target for s in planned if isinstance(s, stages.AttackStage)}
  models = {stage.name for stage in lineages.models(planned)}
  filtering = {f"filtering_num_steps_{n}" for n in (500, 600)}
  # data_filtering follows the base, and is attacked all the same.
  assert models - attacked == {"base", *filtering}
  config.attacks.relearn.models = ("base",)  # Who names it attacks it.
  planned = translation.plan(parse(config), 0)
  assert "relearn_seed0_base" in {stage.name for stage in planned}
