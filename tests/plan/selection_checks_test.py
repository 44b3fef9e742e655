"""Selections and the mixtures that name their rows: what stops before compute."""

import sys

import pytest

from undo_jax import config as c
from undo_jax.plan import checks, stages, translation
from undo_jax.plan.config import parse
from undo_jax.utils.errors import ConfigError

ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}
HOW = {"optimizer": c.optimizer(num_steps=2, learning_rate=1e-3), "batch_size": 16}


@pytest.fixture
def config():
  """The demo's, with a selection, mixtures of its rows, and models that read them."""
  made = c.shipped("arithmetic:tiny")
  made.selections.few = c.selection(share=0.01)
  mixtures, models = made.mixtures, made.models
  mixtures.selected = c.selected("few", mixtures.pretrain)
  mixtures.known_forget = c.labelled("few", mixtures.unlearn_forget)
  mixtures.known_retain = c.labelled("few", mixtures.unlearn_retain)
  models.clean = c.noised_finetune(alphas=(0.6,), mixture="selected", **HOW)
  models.filtered = c.data_filtering(models.base, mixture="selected")
  models.unlearned = c.unlearn(
    "max_ent",
    options=c.weights(retain=1.0),
    forget="known_forget",
    retain="known_retain",
    **HOW,
  )
  models.shaped = c.shaped(models.undo, shares=(0.5,))
  saliency = models.shaped.noise.saliency.mixtures
  saliency.forget, saliency.retain = "known_forget", "selected"
  return made


def check(config):
  checks.check(parse(config), ONE_DEVICE)


def stages_of(config):
  return {stage.name: stage for stage in translation.plan(parse(config), 0)}


def identities(config):
  return stages.identities(translation.plan(parse(config), 0))


def test_what_reads_selected_rows_waits_for_their_selection(config):
  check(config)
  made = stages_of(config)
  few = made["selection_few"]
  assert few.splits == ("retain", "forget") and few.forget == ("forget",)
  assert few.share == 0.01 and few.length == 16 and few.inputs == {"data": "data"}
  both = {"retain:selected": 0.5, "forget:selected": 0.5}
  for name in ("clean_alpha_0.6", "filtered"):
    assert made[name].parts == {"batch": both}
    assert made[name].inputs["selection"] == "selection_few"
    # Nobody had to sort what the base was pretrained on.
    assert made[name].sorts is None
  assert made["data_filtering"].sorts == "base"
  assert made["unlearned"].parts == {
    "forget": {"forget:labelled": 1.0},
    "retain": {"retain:labelled": 1.0},
  }
  squares = made["saliency_base"]
  assert squares.parts == {"forget": {"forget:labelled": 1.0}, "retain": both}
  assert squares.inputs["selection"] == "selection_few"
  names = list(made)
  assert names.index("selection_few") < names.index("clean_alpha_0.6")
  assert names.index("selection_few") < names.index("saliency_base")
  for stage in (few, squares, made["filtered"]):
    assert stages.from_json(stages.to_json(stage), path="config.json") == stage


def test_a_selection_changes_no_other_stage_and_its_name_counts_nothing(config):
  plain = identities(c.shipped("arithmetic:tiny"))
  changed = identities(config)
  assert plain.items() <= changed.items()
  mixtures = config.mixtures
  for entry in ("selected", "known_forget", "known_retain"):
    del mixtures[entry]
  del config.selections["few"]
  config.selections.other = c.selection(share=0.01)
  mixtures.selected = c.selected("other", mixtures.pretrain)
  mixtures.known_forget = c.labelled("other", mixtures.unlearn_forget)
  mixtures.known_retain = c.labelled("other", mixtures.unlearn_retain)
  renamed = identities(config)
  assert renamed.pop("selection_other") == changed.pop("selection_few")
  assert renamed == changed


@pytest.mark.parametrize(
  "field, value",
  [("share", 0.02), ("keep", 0.5), ("seed", 3), ("mixture", "distill")],
)
def test_another_selection_makes_other_models(config, field, value):
  config.mixtures.distill.update(retain=0.25, forget=0.75)
  before = identities(config)
  config.selections.few[field] = value
  after = identities(config)
  changed = {name for name in before if before[name] != after[name]}
  read = {"filtered", "clean_alpha_0.6", "unlearned", "shaped_share_0.5"}
  if field == "mixture":  # The same splits: weights say nothing of rows.
    assert not changed & read
  else:
    assert read | {"selection_few", "saliency_base"} <= changed


def test_equal_selections_are_one_stage(config):
  config.selections.same = c.selection(share=0.01)
  config.mixtures.also = c.selected("same", config.mixtures.pretrain)
  config.models.other = c.noised_finetune(alphas=(0.5,), mixture="also", **HOW)
  made = stages_of(config)
  assert made["other_alpha_0.5"].selection == "selection_few"
  assert "selection_same" not in made
  config.selections.same.share = 0.02
  assert stages_of(config)["other_alpha_0.5"].selection == "selection_same"


def test_seeds_label_other_rows_unless_a_selection_has_its_own(config):
  seeds = lambda: [  # noqa: E731
    next(s for s in translation.plan(parse(config), seed) if s.name == "selection_few")
    for seed in (0, 1)
  ]
  assert [each.seeds["data"] for each in seeds()] == [0, 1]
  config.selections.few.seed = 5
  assert [each.seeds["data"] for each in seeds()] == [5, 5]


def test_overrides_of_a_mixture_reach_those_that_are_selected_from_it(config):
  config.mixtures.pretrain.forget = 0.25
  parts = stages_of(config)["clean_alpha_0.6"].parts
  assert parts == {"batch": {"retain:selected": 0.5, "forget:selected": 0.25}}


WRONG = [
  ("selections.few.share", 0.0, r"few.share: expected a number in \(0, 1\], got 0.0"),
  ("selections.few.share", 1.5, r"few.share: expected a number in \(0, 1\], got 1.5"),
  ("selections.few.rows", 10, "few.share: expected either a share or rows, the other"),
  ("selections.few.share", None, "few.share: expected either a share or rows, the oth"),
  ("selections.few.keep", 1.0, r"keep: expected None or a number in \(0, 1\), got 1.0"),
  ("selections.few.seed", -1, r"seed: expected None or an integer in \[0, 2\^31\)"),
  ("selections.few.mixture", "all", "few.mixture: expected one of pretrain, .*'all'"),
  ("selections.few.mixture", "data_filtering", "on forget, attack and on others"),
  ("selections.few.mixture", "attack", "weight on forget, attack and on others, which"),
  ("selections.few.mixture", "selected", "selected.retain:few: expected 0, since a se"),
  ("mixtures.attack.forget:few", 1.0, "attack: expected rows of one selection alone"),
]


@pytest.mark.parametrize("field, value, message", WRONG)
def test_a_wrong_value_is_named(config, field, value, message):
  with config.ignore_type(), config.unlocked():
    *blocks, last = field.split(".")
    block = config
    for name in blocks:
      block = block[name]
    block[last] = value
  with pytest.raises(ConfigError, match=message) as error:
    check(config)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "weights, message",
  [
    ({"retain:fwe": 1.0}, r"wrong.retain:fwe: expected 0, since .* selection \(few\)"),
    ({"retain:": 1.0}, r"expected 0, since there is no such selection \(few\)"),
    ({"retain:few:best": 1.0}, "since rows are retain:few or retain:few:labelled"),
    ({"retain:few:selected": 1.0}, "rows are retain:few or retain:few:labelled"),
    ({"attack:few": 1.0}, "expected 0, since few selects rows of retain, forget"),
    ({"songs:few": 1.0}, "expected 0, since few selects rows of retain, forget"),
    ({"retain:few": 1.0, "forget": 1.0}, "rows of one selection alone, or splits"),
    ({"retain:few": 1.0, "retain:two": 1.0}, "rows of one selection alone"),
    ({"retain:few": -1.0}, "a weight of at least 0, got -1.0"),
  ],
)
def test_a_name_of_rows_that_are_not_there_is_named(config, weights, message):
  if "retain:two" in weights:
    config.selections.two = c.selection(rows=10)
  config.mixtures.wrong = c.block(**weights)
  with pytest.raises(ConfigError, match=message) as error:
    check(config)
  assert "\n" not in str(error.value)


def test_selected_rows_are_no_forget_data_and_routing_has_labels_of_its_own(config):
  config.models.unlearned.mixture.forget = "selected"
  with pytest.raises(ConfigError, match="selected.retain:few: expected 0, since these"):
    check(config)
  config.models.unlearned.mixture.forget = "known_retain"
  with pytest.raises(ConfigError, match="known_retain.retain:few:labelled: expected 0"):
    check(config)
  config.models.unlearned.mixture.update(forget="known_forget", retain="known_forget")
  with pytest.raises(ConfigError, match="known_forget.forget:few:labelled: expected 0"):
    check(config)
  # What is selected may be kept, wrong rows among it.
  config.models.unlearned.mixture.retain = "selected"
  check(config)
  config.models.shaped.noise.saliency.mixtures.forget = "selected"
  with pytest.raises(ConfigError, match="selected.retain:few: expected 0, since these"):
    check(config)
  config.models.shaped.noise.saliency.mixtures.forget = "known_forget"
  config.models.filtered.labels.drop_forget = True
  with pytest.raises(ConfigError, match="filtered.mixture: expected mixtures of spl"):
    check(config)


def test_one_entry_reads_one_selection(config):
  config.selections.two = c.selection(rows=10)
  config.mixtures.of_two = c.labelled("two", config.mixtures.unlearn_retain)
  config.models.unlearned.mixture.retain = "of_two"
  with pytest.raises(ConfigError, match="rows of one selection, got those of few, two"):
    check(config)


def test_scikit_learn_is_asked_for_where_rows_are_selected_alone(config, monkeypatch):
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[selection\]'"):
    check(config)
  for name in ("clean", "filtered", "unlearned", "shaped"):
    config.models[name].run = False
  check(config)
