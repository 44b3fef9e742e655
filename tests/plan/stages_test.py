"""Stages: their JSON, their identities, and what a model is made from."""

import json

import pytest

from tests.plan.plans import by_name, changed, identities, plan, routed
from undo_jax.plan import lineages, stages
from undo_jax.utils.types import ConfigError


def test_a_repeated_plan_has_the_same_identities():
  assert identities() == identities()


def test_the_seed_changes_everything():
  before, after = (stages.identities(plan(seed=seed)) for seed in (0, 1))
  assert not set(before.values()) & set(after.values())


def test_how_it_is_shown_changes_nothing():
  assert changed(models__rmu__look__label="mine", report__budgets=(7,)) == set()
  assert changed(references__base=None, attacks__relearn__label="mine") == set()


def test_a_recipe_is_what_it_says_by_any_name():
  planned = by_name(models__max_ent_sam__run=True)
  plain, sam = planned["max_ent"], planned["max_ent_sam"]
  assert stages.to_json(sam) == stages.to_json(plain) | {
    "name": "max_ent_sam",
    "rho": 0.01,
  }
  # Every option that is at its default leaves the stage as it was without options.
  assert plain.options == {"retain_weight": 1.0}


def test_lineage_counts_a_teacher_once_and_leaves_out_what_is_not_counted():
  made = plan()

  def lineage(name):
    return [stage.name for stage in lineages.lineage(made, name)]

  assert lineage("base") == []
  assert lineage("max_ent") == ["max_ent"]
  assert sorted(lineage("undo_alpha_0.5")) == ["max_ent", "undo_alpha_0.5"]
  assert sorted(lineage("oracle_matching")) == ["data_filtering", "oracle_matching"]
  assert sorted(lineage("unlearn_and_distill")) == ["max_ent", "unlearn_and_distill"]
  assert lineage("data_filtering") == ["data_filtering"]


def test_a_stage_comes_back_from_its_json_whatever_stands_beside_it():
  for stage in [*plan(), *routed().values()]:
    value = json.loads(json.dumps(stages.to_json(stage)))
    assert stages.from_json(value | {"scores": {}}, path="done.json") == stage


def test_a_stage_of_another_version_is_refused():
  value = stages.to_json(plan()[1])
  for change in ({"version": stages.VERSION + 1}, {"kind": "poem"}):
    with pytest.raises(ConfigError, match="done.json: expected a stage of version"):
      stages.from_json(value | change, path="done.json")


def test_what_a_stage_needs_comes_with_it_in_the_order_of_the_plan():
  needed = lineages.needed(plan(), ["relearn_undo_alpha_0.5"])
  data, *names = [stage.name for stage in needed]
  assert data == plan()[0].name
  assert names == ["base", "max_ent", "undo_alpha_0.5", "relearn_undo_alpha_0.5"]
  assert [stage.name for stage in lineages.needed(plan(), ["base"])] == [data, "base"]


def test_a_model_was_trained_by_itself_or_by_what_it_is_an_ablation_of():
  made = routed()
  every = [*made.values()]
  assert lineages.trained(every, made["routed"]) is made["routed_whole"]
  assert lineages.trained(every, made["base"]) is made["base"]
  assert made["routed_whole"] not in lineages.models(every)
