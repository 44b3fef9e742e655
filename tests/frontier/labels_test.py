"""How many labelled tokens a model saw, by hand."""

from undo_jax import config as c
from undo_jax.frontier import labels
from undo_jax.frontier.labels import LabelBudget
from undo_jax.plan import lineages, translation
from undo_jax.plan.config import parse
from undo_jax.utils import records

PRETRAINING = 800 * 128 * 16


def budgets(config, updates=60, base="base"):
  """Return the label budgets of models, each trained for so many updates."""
  plan = translation.plan(parse(config), 0)
  outcome = {"updates": updates, "compute": {"tokens": PRETRAINING}}
  outcomes = {stage.name: outcome for stage in plan}
  return {
    model.name: labels.budget(plan, outcomes, model.name, base=base)
    for model in lineages.models(plan)
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


def test_of_a_task_vector_the_forget_rows_count_of_a_distortion_those_that_are_kept():
  config = c.shipped("arithmetic:tiny")
  config.models.task_vector.run = config.models.weight_distortion.run = True
  budget, rows = budgets(config), 60 * 128 * 16
  assert budget["task_vector"].tokens == {"forget": rows}
  assert budget["weight_distortion"].tokens == {"retain": rows}


def test_of_layers_the_rows_of_all_stages_count():
  config = c.shipped("arithmetic:tiny")
  config.models.layered_max_ent.run = True
  budget, rows = budgets(config), 60 * 128 * 16
  assert budget["layered_max_ent_2"].tokens == {"forget": 2 * rows, "retain": 2 * rows}
  assert budget["layered_max_ent"].tokens == {"forget": 3 * rows, "retain": 3 * rows}


def without_teacher(**pretraining):
  """Return what rows without an unlearned teacher need, after 60 updates each."""
  config = c.shipped("arithmetic:tiny")
  config.mixtures.pretrain.update(pretraining)
  how = {"optimizer": c.optimizer(num_steps=200, learning_rate=2e-3), "batch_size": 128}
  models, undo = config.models, config.models.undo
  models.clean = c.noised_finetune(alphas=(0.6,), mixture="data_filtering", **how)
  models.mixed = c.noised_finetune(alphas=(0.6,), mixture="distill", **how)
  models.taught_clean = c.undo(
    teacher="base", alphas=(0.6,), mixture="data_filtering", **how
  )
  models.taught_mixed = c.undo(teacher="base", alphas=(0.6,), **how)
  models.undo_clean = c.like(undo, mixture={"batch": "data_filtering"})
  budget = budgets(config)
  return {name: each.tokens for name, each in budget.items()}


def test_rows_that_are_known_to_be_clean_count_as_labels():
  rows = 60 * 128 * 16
  tokens = without_teacher()
  for name in ("clean_alpha_0.6", "taught_clean_alpha_0.6"):
    assert tokens[name] == {"retain": rows}
  # Half of the rows are forget data, as in pretraining: nobody has to tell which.
  assert tokens["mixed_alpha_0.6"] == tokens["taught_mixed_alpha_0.6"] == {}
  assert tokens["undo_clean_alpha_0.5"] == {"forget": rows, "retain": 2 * rows}
  assert tokens["undo_alpha_0.5"] == {"forget": rows, "retain": rows}


def test_another_share_of_forget_data_has_to_be_made_by_labels():
  rows = 60 * 128 * 16
  tokens = without_teacher(retain=0.9, forget=0.1)
  assert tokens["mixed_alpha_0.6"] == {"forget": rows / 2, "retain": rows / 2}
  assert tokens["clean_alpha_0.6"] == {"retain": rows}
  # Weights need not sum to one.
  assert without_teacher(retain=3.0, forget=3.0)["mixed_alpha_0.6"] == {}


def test_of_a_given_base_clean_rows_count_all_the_same():
  config = c.shipped("arithmetic:tiny")
  config.models.base = c.given("/a/checkpoint")
  for name in ("data_filtering", "oracle_matching"):
    config.models[name].run = False
  config.models.clean = c.like(config.models.undo, mixture={"batch": "data_filtering"})
  plan = translation.plan(parse(config), 0, {"base": "0" * 12})
  outcomes = {stage.name: {"updates": 2, "compute": {"tokens": 0}} for stage in plan}
  rows = 2 * 128 * 16
  for name, retain in (("undo_alpha_0.5", rows), ("clean_alpha_0.5", 2 * rows)):
    budget = labels.budget(plan, outcomes, name, base="base")
    assert budget.tokens == {"forget": rows, "retain": retain}


def test_squared_gradients_read_labelled_rows():
  config = c.shipped("arithmetic:tiny")
  saliency = {"num_batches": 10, "batch_size": 16}
  config.models.shaped = c.shaped(config.models.undo, shares=(0.5,), saliency=saliency)
  tokens = budgets(config)["shaped_share_0.5"].tokens
  each = 60 * 128 * 16 + 10 * 16 * 16  # Of unlearning, and of these.
  assert tokens == {"forget": each, "retain": each}
  # All that pretraining reads, as in selective synaptic dampening.
  config.models.shaped.noise.saliency.mixtures.retain = "pretrain"
  tokens = budgets(config)["shaped_share_0.5"].tokens
  assert tokens == {"forget": each, "retain": 60 * 128 * 16}


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


def selected_budgets():
  """Return what models need that read what a selection of 300 and 200 rows leaves."""
  config = c.shipped("arithmetic:tiny")
  config.selections.few = c.selection(rows=500)
  mixtures, models = config.mixtures, config.models
  mixtures.selected = c.selected("few", mixtures.pretrain)
  mixtures.known_forget = c.labelled("few", mixtures.unlearn_forget)
  mixtures.known_retain = c.labelled("few", mixtures.unlearn_retain)
  how = {"optimizer": c.optimizer(num_steps=200, learning_rate=2e-3), "batch_size": 128}
  models.clean = c.noised_finetune(alphas=(0.6,), mixture="selected", **how)
  models.masked = c.undo(teacher="base", alphas=(0.6,), mixture="selected", **how)
  models.filtered = c.data_filtering(models.base, mixture="selected")
  known = {"forget": "known_forget", "retain": "known_retain"}
  models.unlearned = c.like(models.max_ent, mixture=known)
  models.undone = c.undo(teacher="unlearned", alphas=(0.6,), mixture="selected", **how)
  models.half = c.like(models.max_ent, mixture={"forget": "known_forget"})
  models.shaped = c.shaped(models.undo, shares=(0.5,), start="base")
  models.shaped.frozen.teacher = "base"
  settings = models.shaped.noise.saliency
  settings.mixtures.update(forget="known_forget", retain="selected")
  plan = translation.plan(parse(config), 0)
  outcome = {"updates": 60, "compute": {"tokens": PRETRAINING}}
  chosen = {
    "labelled": {"retain": 300, "forget": 200},
    "precision": 0.9,
    "recall": 0.8,
  }
  outcomes = {stage.name: outcome | chosen for stage in plan}
  return {
    model.name: labels.budget(plan, outcomes, model.name, base="base")
    for model in lineages.models(plan)
  }


def test_the_labels_of_a_selection_are_paid_once_whatever_reads_by_them():
  budget = selected_budgets()
  tokens = {"forget": 200 * 16, "retain": 300 * 16}
  few = labels.Selected(
    stage="selection_few",
    rows={"forget": 200, "retain": 300},
    tokens=tokens,
    precision=0.9,
    recall=0.8,
  )
  expected = LabelBudget(
    tokens=tokens, share_of_pretraining=500 * 16 / PRETRAINING, selected=(few,)
  )
  names = ("clean_alpha_0.6", "masked_alpha_0.6", "filtered", "unlearned")
  for name in (*names, "undone_alpha_0.6", "shaped_share_0.5"):
    assert budget[name] == expected
  # Retain rows that are read by label count beside it, each time.
  rows = 60 * 128 * 16
  assert budget["half"].tokens == {"forget": 200 * 16, "retain": rows + 300 * 16}
  # Nothing is said of models that read none.
  assert budget["data_filtering"].selected == budget["max_ent"].selected == ()
  assert "selected" not in records.to_json(budget["max_ent"])
  assert records.from_json(LabelBudget, records.to_json(expected)) == expected
