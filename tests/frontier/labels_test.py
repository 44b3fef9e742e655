"""How many labelled tokens a model saw, by hand."""

from undo_jax import config as c
from undo_jax.frontier import labels
from undo_jax.frontier.labels import LabelBudget
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse

PRETRAINING = 800 * 128 * 16


def budgets(config, updates=60, base="base"):
  """Returns the label budgets of models, each trained for so many updates."""
  plan = translation.plan(parse(config), 0)
  outcome = {"updates": updates, "compute": {"tokens": PRETRAINING}}
  outcomes = {stage.name: outcome for stage in plan}
  return {
    model.name: labels.budget(plan, outcomes, model.name, base=base)
    for model in stages.models(plan)
  }


def test_the_label_budget_of_every_kind_of_model():
  budget = budgets(c.shipped("arithmetic:tiny"))  # 60 updates of 128 rows of 16 tokens.
  rows = 60 * 128 * 16
  unlearned = LabelBudget(
    tokens={"forget": rows, "retain": rows}, share_of_pretraining=0.15
  )
  for name in ("max_ent", "unlearn_and_distill", "undo_alpha_0.5"):
    assert budget[name] == unlearned
  everything = LabelBudget(tokens={"all": PRETRAINING}, share_of_pretraining=1.0)
  assert budget["data_filtering"] == budget["oracle_matching"] == everything
  assert budget["base"] == LabelBudget(tokens={}, share_of_pretraining=0.0)


def test_squared_gradients_read_labelled_rows():
  config = c.shipped("arithmetic:tiny")
  asked = {"num_batches": 10, "batch_size": 16}
  config.models.shaped = c.shaped(config.models.undo, shares=(0.5,), saliency=asked)
  tokens = budgets(config)["shaped_share_0.5"].tokens
  each = 60 * 128 * 16 + 10 * 16 * 16  # Of unlearning, and of these.
  assert tokens == {"forget": each, "retain": each}


def test_no_share_where_there_is_no_base():
  budget = budgets(c.shipped("arithmetic:tiny"), base=None)["max_ent"]
  assert budget.share_of_pretraining is None
  assert budget.tokens["forget"] == 60 * 128 * 16


def test_no_share_where_the_base_was_given():
  config = c.shipped("arithmetic:tiny")
  config.models.base = c.given("/a/checkpoint")
  for name in ("data_filtering", "oracle_matching"):
    config.models[name].run = False
  plan = translation.plan(parse(config), 0, {"base": "0" * 12})
  outcomes = {stage.name: {"updates": 2, "compute": {"tokens": 0}} for stage in plan}
  budget = labels.budget(plan, outcomes, "max_ent", base="base")
  assert budget.share_of_pretraining is None
  assert budget.tokens["forget"] == 2 * 128 * 16


def test_routing_needs_the_labels_it_reads():
  config = c.shipped("routing_arithmetic:labelled")
  config.mixtures.pretrain.update(retain=0.75, forget=0.25)
  tokens = {name: each.tokens for name, each in budgets(config, updates=800).items()}
  both = {"forget": PRETRAINING / 16, "retain": PRETRAINING * 3 / 16}
  assert tokens["routed"] == both
  assert tokens["data_filtering_labelled"] == {"forget": PRETRAINING / 16}
  assert tokens["sgtm"] == both
  # Distillation reads as much of forget data as of retain data.
  distilled = tokens["routed_distillation_alpha_0.5"]
  assert distilled == {"forget": PRETRAINING / 8, "retain": PRETRAINING / 8}
  config.models.routed.options.trusted = False
  budget = budgets(config, updates=800)["routed"]
  assert budget.tokens == {"forget": PRETRAINING / 16}
