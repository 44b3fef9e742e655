"""What determines a stage's identity, and what a model is made from."""

import json

import pytest
import tokenizers as hf
from tokenizers import models

from configs import arithmetic
from undo_jax import stages


def planned(**changes):
  config = arithmetic.get_config("tiny")
  for name, value in changes.items():
    with config.unlocked():
      config.update_from_flattened_dict({name.replace("__", "."): value})
  return config


def identities(**changes):
  return stages.identities(stages.plan(planned(**changes)))


def changed(**changes):
  """Names of the stages that a change gives another identity."""
  before, after = identities(), identities(**changes)
  assert list(before) == list(after)
  return {name for name in before if before[name] != after[name]}


TINY = list(identities())
ATTACKS = {name for name in TINY if name.startswith("attack_")}
STUDENTS = {name for name in TINY if name.startswith("undo_")} | {"unlearn_and_distill"}


def attacks(*models):
  return {f"attack_{model}" for model in models}


def test_the_plan_holds_every_model_and_attacks_each():
  models = TINY[1 : TINY.index("attack_base")]
  assert models == [
    "base",
    "data_filtering",
    "max_ent",
    "grad_diff",
    "rmu",
    "oracle_matching",
    "unlearn_and_distill",
    "undo_alpha_0.3",
    "undo_alpha_0.5",
    "undo_alpha_0.7",
  ]
  assert attacks(*models) == ATTACKS


def test_a_repeated_plan_has_the_same_identities():
  assert identities() == identities()


def test_the_seed_changes_everything():
  assert changed(seed=1) == set(TINY)


@pytest.mark.parametrize("field", ["checkpoint_every", "mesh__fsdp"])
def test_how_it_runs_changes_nothing(field):
  assert changed(**{field: 7}) == set()


def test_an_attack_setting_changes_the_attacks_only():
  assert changed(attack__num_steps=100) == ATTACKS


def test_adapters_change_the_attacks_and_only_where_they_are_trained():
  assert changed(attack__lora__rank=2) == ATTACKS
  assert changed(attack__lora__alpha=4.0) == set()  # The rank is 0: no adapters.
  on = {"attack__lora__rank": 2}
  assert identities(**on) != identities(**on, attack__lora__alpha=4.0)
  plan = {s.name: s for s in stages.plan(arithmetic.get_config("tiny"))}
  assert "lora" not in plan["attack_base"].settings["attack"]


def test_what_the_adversary_does_first_or_leaves_out_changes_the_attacks():
  assert changed(attack__perturb__alpha=0.1) == ATTACKS
  assert changed(attack__warmup_steps=1) == ATTACKS
  assert changed(attack__trainable=(("embedding", ()),)) == ATTACKS
  assert changed(attack__perturb__beta=0.5) == set()  # Alpha is 0: no noise.
  off = stages.plan(planned())[-1].settings["attack"]
  assert not {"warmup_steps", "perturb", "trainable"} & set(off)


@pytest.mark.parametrize(
  "change",
  [
    {"rho": 0.1},
    {"trainable": (("embedding", ()),)},
    {"options__forget_weight": 0.5},
    {"options__retain_loss": "kl"},
  ],
)
def test_how_a_method_trains_changes_it(change):
  only = {"grad_diff", "attack_grad_diff"}
  change = {f"unlearn__grad_diff__{name}": value for name, value in change.items()}
  assert changed(**change) == only


def test_a_method_is_its_objective_by_any_name():
  methods = {"unlearn__methods": ("max_ent", "max_ent_sam")}
  by_name = {s.name: s for s in stages.plan(planned(**methods))}
  plain, sam = by_name["max_ent"].settings, by_name["max_ent_sam"].settings
  assert sam == plain | {"rho": 0.01}
  # Every option that is at its default leaves the stage as it was without options.
  assert plain["options"] == {"retain_weight": 1.0}
  assert "trainable" not in plain["optimizer"]


def test_models_from_before_unlearning_are_inputs_where_they_are_read():
  changes = {
    "unlearn__max_ent__options__retain_loss": "kl",
    "distill__options__base_share": 0.1,
  }
  by_name = {s.name: s for s in stages.plan(planned(**changes))}
  assert by_name["max_ent"].inputs["reference"] == "base"
  assert by_name["rmu"].inputs["reference"] == "base"
  assert "reference" not in by_name["grad_diff"].inputs
  for name in STUDENTS:
    assert by_name[name].inputs["base"] == "base"
  assert "base" not in by_name["oracle_matching"].inputs


def test_a_random_student_trains_everything():
  pairs = (("layers/mlp/.*", (0,)),)
  by_name = {s.name: s for s in stages.plan(planned(distill__trainable=pairs))}
  trained = by_name["undo_alpha_0.5"].settings["optimizer"]["trainable"]
  assert trained == [["layers/mlp/.*", [0]]]
  assert "trainable" not in by_name["unlearn_and_distill"].settings["optimizer"]


def test_the_scores_of_the_stop_rule_change_the_students():
  assert changed(distill__stop__scores=("retain", "forget")) == STUDENTS | attacks(
    *STUDENTS
  )
  by_name = {s.name: s for s in stages.plan(planned())}
  assert "scores" not in by_name["undo_alpha_0.5"].settings["stop"]


def test_a_method_changes_itself_and_what_is_made_from_it():
  only = {"grad_diff", "attack_grad_diff"}
  assert changed(unlearn__grad_diff__learning_rate=1e-3) == only
  made = {"max_ent", *STUDENTS}
  assert changed(unlearn__max_ent__learning_rate=1e-3) == made | attacks(*made)


def test_beta_changes_the_noised_students_only():
  students = STUDENTS - {"unlearn_and_distill"}
  assert changed(undo__beta=0.2) == students | attacks(*students)


@pytest.mark.parametrize(
  "stream, first",
  [
    ("attack", ATTACKS),
    ("distill_data", {"oracle_matching", *STUDENTS}),
    ("eval", set(TINY)),
  ],
)
def test_a_stream_redraws_its_own_stages(stream, first):
  made = first | {f"attack_{name}" for name in first if not name.startswith("attack")}
  assert changed(**{f"streams__{stream}": 9}) == made & set(TINY)


def test_a_tokenizer_without_a_file_adds_nothing_to_the_settings():
  config = arithmetic.get_config("tiny")
  data = stages.plan(config)[0].settings["data"]
  assert set(data) == set(config.data)


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


def test_changes_of_a_training_are_those_of_its_stage_alone():
  filtering = {"data_filtering", "attack_data_filtering"}
  made = filtering | {"oracle_matching", "attack_oracle_matching"}
  assert changed(data_filtering__num_steps=700) == made
  random_student = {"unlearn_and_distill", "attack_unlearn_and_distill"}
  assert changed(unlearn_and_distill__weight_decay=0.1) == random_student
  assert changed(unlearn_and_distill__weight_decay=0.0) == set()  # As in distill.


def test_a_mixture_changes_what_reads_it():
  made = {"oracle_matching", *STUDENTS}
  assert changed(mixtures__distill__forget=0.2) == made | attacks(*made)
  assert changed(mixtures__attack__retain=0.2) == ATTACKS


def test_the_order_of_a_mixtures_splits_is_the_settings():
  config = arithmetic.get_config("tiny")
  config.mixtures.pretrain = {"forget": 0.5, "retain": 0.5}
  assert stages.identities(stages.plan(config)) == identities()
  mixture = stages.plan(config)[1].settings["parts"]["batch"]
  assert list(mixture) == ["retain", "forget"]


def test_lineage_counts_a_teacher_once_and_leaves_out_the_base():
  plan = stages.plan(arithmetic.get_config("tiny"))
  lineage = lambda name: set(stages.lineage(plan, name))  # noqa: E731
  assert lineage("base") == set()
  assert lineage("max_ent") == {"max_ent"}
  assert stages.lineage(plan, "undo_alpha_0.5") == ["undo_alpha_0.5", "max_ent"]
  assert lineage("oracle_matching") == {"oracle_matching", "data_filtering"}
  assert lineage("unlearn_and_distill") == {"unlearn_and_distill", "max_ent"}
  assert lineage("data_filtering") == {"data_filtering"}


def test_the_attacker_gets_forget_data_and_filtering_only_retain_data():
  by_name = {s.name: s for s in stages.plan(arithmetic.get_config("tiny"))}
  assert by_name["data_filtering"].settings["parts"] == {"batch": {"retain": 1.0}}
  assert by_name["base"].settings["parts"] == {"batch": {"retain": 0.5, "forget": 0.5}}
  for name in ATTACKS:
    assert by_name[name].settings["parts"] == {"batch": {"forget": 1.0}}


# ---- Gradient routing.

EVERY = (
  "routed",
  "routed_control",
  "sgtm",
  "routed_distillation",
  "sgtm_distillation",
)
ON = {
  "routing__methods": EVERY,
  "routing__teachers": ("routed",),
  "routing__undo_alphas": (0.3,),
  "routing__alphas": (0.5, 1.0),
}
ABLATED = {
  "routed",
  "routed_control",
  "sgtm",
  "routed_distillation_alpha_0.5",
  "routed_distillation_alpha_1",
  "sgtm_distillation_alpha_0.5",
  "sgtm_distillation_alpha_1",
}


def routed(**changes):
  return {s.name: s for s in stages.plan(planned(**ON, **changes))}


def test_routing_that_is_off_determines_nothing():
  assert changed(routing__mlp_units=7, routing__labelled=0.5) == set()
  assert changed(routing__undo_alphas=(0.5,), routing__pretrain__num_steps=9) == set()


def test_routed_models_come_beside_the_others_which_stay_as_they_were():
  found = stages.identities(stages.plan(planned(**ON)))
  assert {name: found[name] for name in TINY} == identities()
  added = {*ABLATED, "routed_undo_alpha_0.3"}
  whole = {f"{name}_whole" for name in ABLATED}
  assert found.keys() - set(TINY) == {*added, *whole, *attacks(*added)}
  assert (
    set(stages.models(stages.plan(planned(**ON))))
    == {name.removeprefix("attack_") for name in ATTACKS} | added
  )


def test_routed_pretraining_is_that_of_the_base_with_another_objective():
  plan = routed()
  base, whole = plan["base"].settings, plan["routed_whole"].settings
  assert {name for name in base if base[name] != whole[name]} == {
    "objective",
    "options",
  }
  assert whole["labels"] == {"share": 1.0, "forget": ["forget"]}
  assert whole["routing"] == {"mlp_units": 48, "kv_heads": 0, "old_target": 0.0}
  control = plan["routed_control_whole"].settings
  assert control == whole | {"routing": whole["routing"] | {"old_target": 1.0}}
  assert plan["routed"].settings["routing"] == {"mlp_units": 48, "kv_heads": 0}
  assert plan["routed"].inputs == {"data": "data", "model": "routed_whole"}


def test_masked_parts_keep_the_mixture():
  changes = {"mixtures__pretrain__retain": 0.75, "mixtures__pretrain__forget": 0.25}
  full = routed(**changes)["sgtm_whole"].settings
  assert full["parts"] == {"forget": {"forget": 0.25}, "retain": {"retain": 0.75}}
  assert full["rows"] == {"forget": 32, "retain": 96}
  plan = routed(**changes, routing__labelled=0.25)
  partial = plan["sgtm_whole"].settings
  assert partial["parts"] == {
    "forget": {"forget:labelled": 0.25},
    "retain": {"retain:labelled": 0.75},
    "unlabelled": {"retain:unlabelled": 0.75, "forget:unlabelled": 0.25},
  }
  assert partial["rows"] == {"forget": 8, "retain": 24, "unlabelled": 96}
  filtered = plan["data_filtering_labelled"].settings
  # What is labelled forget is left out: a quarter of a quarter.
  assert filtered["parts"] == {"batch": {"retain": 0.75, "forget:unlabelled": 0.1875}}
  assert "data_filtering_labelled" not in routed()


def test_what_routing_says_changes_its_own_models():
  def differing(**changes):
    before, after = (
      stages.identities(stages.plan(planned(**ON, **more))) for more in ({}, changes)
    )
    return {name for name in before if before[name] != after[name]} - ATTACKS

  def with_attacks(*names):
    made = {f"{name}_whole" for name in names if name in ABLATED}
    return {*names, *made, *attacks(*names)}

  distilled = {name for name in ABLATED if "_distillation_" in name}
  routed_ones = {name for name in ABLATED if not name.startswith("sgtm")}
  undone = "routed_undo_alpha_0.3"
  assert differing(routing__mlp_units=9) == with_attacks(*ABLATED, undone)
  assert differing(routing__old_target=-0.5) == with_attacks(
    "routed", undone, *distilled & routed_ones
  )
  assert differing(routing__pretrain__num_steps=700) == with_attacks(
    "routed", "routed_control", "sgtm", undone
  )
  assert differing(routing__distill__num_steps=700) == with_attacks(*distilled)
  assert differing(routing__coherence_weight=0.5) == with_attacks(*routed_ones, undone)


def test_a_routed_teacher_and_the_base_are_where_students_come_from():
  plan = routed()
  stage = plan["routed_undo_alpha_0.3"]
  assert stage.inputs == {"data": "data", "init": "routed", "teacher": "routed"}
  undo = plan["undo_alpha_0.3"].settings
  assert stage.settings == undo
  masked = plan["sgtm_distillation_alpha_1_whole"].settings
  assert masked["rows"] == {"forget": 64, "retain": 64}
  assert masked["objective"] == "sgtm_forward_kl"
  stage = plan["routed_distillation_alpha_1_whole"]
  assert stage.inputs == {"data": "data", "init": "base", "teacher": "base"}
  assert stage.settings["noise"] == {"alpha": 1.0, "beta": 0.1}
  assert stage.settings["stop"] == undo["stop"]
  lineage = lambda name: stages.lineage([*plan.values()], name)  # noqa: E731
  assert lineage("routed") == ["routed", "routed_whole"]
  assert lineage("routed_undo_alpha_0.3") == ["routed_undo_alpha_0.3"] + lineage(
    "routed"
  )
  name = "routed_distillation_alpha_1"
  assert lineage(name) == [name, f"{name}_whole"]


def test_routed_models_belong_to_the_stage_they_start_at():
  config = planned(**ON, routing__labelled=0.5)
  names = {
    kind: {s.name for s in stages.single(config, kind)}
    for kind in ("pretrain", "unlearn", "distill")
  }
  assert {"routed", "sgtm", "data_filtering_labelled"} <= names["pretrain"]
  assert "routed_distillation_alpha_1" in names["unlearn"] - names["pretrain"]
  assert "routed_undo_alpha_0.3" in names["distill"]
  given = {s.name for s in stages.single(config, "distill", "0" * 12)}
  assert "routed_undo_alpha_0.3" not in given  # The given model is the teacher.
  plan = {s.name: s for s in stages.single(config, "unlearn", "0" * 12)}
  assert plan["base"].kind == "given" and "routed_distillation_alpha_1" in plan
  plan = {s.name: s for s in stages.single(config, "pretrain", "0" * 12)}
  assert plan["sgtm_whole"].inputs["init"] == "model"
  assert set(plan["sgtm"].inputs) == {"data", "model"}
