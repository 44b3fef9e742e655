"""How many labelled tokens a model saw, by hand."""

from configs import arithmetic
from undo_jax import stages
from undo_jax.frontier import labels


def test_the_label_budget_of_every_kind_of_model():
  config = arithmetic.get_config("tiny")  # 60 updates of 128 rows of 16 tokens.
  plan = stages.plan(config)
  outcome = {"updates": 60, "compute": {"tokens": 800 * 128 * 16}}
  outcomes = {stage.name: outcome for stage in plan}
  budget = {
    s.name: labels.budget(plan, outcomes, s.name) for s in plan if s.kind == "train"
  }
  unlearned = {"forget": 60 * 128 * 16, "retain": 60 * 128 * 16}
  for name in ("max_ent", "unlearn_and_distill", "undo_alpha_0.5"):
    assert budget[name] == {"tokens": unlearned, "share_of_pretraining": 0.15}
  everything = {"tokens": {"all": 800 * 128 * 16}, "share_of_pretraining": 1.0}
  assert budget["data_filtering"] == budget["oracle_matching"] == everything
  assert budget["base"] == {"tokens": {}, "share_of_pretraining": 0.0}


def test_no_share_where_the_base_was_given():
  plan = stages.single(arithmetic.get_config("tiny"), "unlearn", "0" * 12)
  outcomes = {stage.name: {"updates": 2, "compute": {"tokens": 0}} for stage in plan}
  found = labels.budget(plan, outcomes, "max_ent")
  assert found["share_of_pretraining"] is None
  assert found["tokens"]["forget"] == 2 * 128 * 16


def test_routing_needs_the_labels_it_reads():
  config = arithmetic.get_config("tiny")
  config.mixtures.pretrain.update(retain=0.75, forget=0.25)
  config.routing.methods = ("routed", "sgtm", "routed_distillation")
  config.routing.labelled = 0.25
  plan = stages.plan(config)
  pretraining = 800 * 128 * 16
  outcome = {"updates": 800, "compute": {"tokens": pretraining}}
  outcomes = {stage.name: outcome for stage in plan}

  def tokens(name):
    return labels.budget(plan, outcomes, name)["tokens"]

  both = {"forget": pretraining / 16, "retain": pretraining * 3 / 16}
  assert tokens("routed") == both
  assert tokens("data_filtering_labelled") == {"forget": pretraining / 16}
  assert tokens("sgtm") == both
  # Distillation reads as much of forget data as of retain data.
  distilled = tokens("routed_distillation_alpha_0.5")
  assert distilled == {"forget": pretraining / 8, "retain": pretraining / 8}
  config.routing.trusted = False
  plan = stages.plan(config)
  assert tokens("routed") == {"forget": pretraining / 16}
