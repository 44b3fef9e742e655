"""Several runs as one: other seeds, other models, and what may not be mixed."""

import dataclasses

import pytest

from tests.frontier import made_up
from undo_jax.frontier import matched, merging
from undo_jax.utils.errors import ConfigError

SMALL = ("base", "data_filtering", "max_ent", "undo_alpha_0.5")


def of(*seeds, names=SMALL, **changes):
  return made_up.synthetic(names, 20, seeds=seeds, **changes)


def with_protocol(results, **changes):
  return dataclasses.replace(results, protocol=results.protocol | changes)


def with_recipe(results, name, recipe):
  return made_up.changed_model(results, name, recipe=recipe)


def test_seeds_of_a_recipe_are_one_model_in_their_order():
  merged = merging.merge({f"run{seed}": of(seed) for seed in (3, 1, 2)})
  assert merged.seeds == (1, 2, 3)
  for name, model in merged.models.items():
    assert [run.seed for run in model.runs] == [1, 2, 3]
    assert model.runs[0] == of(1).models[name].runs[0]
  assert merging.merge({"a": of(1, 4), "b": of(2)}).seeds == (1, 2, 4)
  assert merging.merge({"alone": of(1)}) == matched.completed(of(1))


def test_other_models_stand_beside_those_that_are_there():
  more = of(0, names=("base", "rmu"))
  merged = merging.merge({"one": of(0), "two": more})
  assert list(merged.models) == [*SMALL, "rmu"]
  assert merged.models["rmu"] == more.models["rmu"]
  assert merged.references == of(0).references


def test_a_name_with_another_recipe_is_another_model():
  other = with_recipe(of(0, 1), "max_ent", "f" * 12)
  merged = merging.merge({"ours": of(0), "theirs": other})
  assert list(merged.models) == [*SMALL, "max_ent@theirs"]
  assert merged.models["max_ent@theirs"].label == "MaxEnt (theirs)"
  assert [run.seed for run in merged.models["max_ent"].runs] == [0]
  assert [run.seed for run in merged.models["base"].runs] == [0, 1]


def test_a_run_that_is_there_twice_is_one_unless_it_differs():
  assert merging.merge(
    {"a": of(1), "copy": merging.located(of(1), "b")}
  ) == matched.completed(of(1))
  other = made_up.changed_run(of(1), "base", directory="elsewhere")
  with pytest.raises(ConfigError, match="different seeds, got seed 1 of base twice"):
    merging.merge({"a": of(1), "b": other})


def test_a_leaderboard_has_a_line_for_each_model_that_makes_the_whole_again():
  whole = of(0, 1)
  lines = merging.single(whole)
  assert [list(line.models) for line in lines] == [[name] for name in SMALL]
  assert merging.merge(
    {str(i): line for i, line in enumerate(lines)}
  ) == matched.completed(whole)


def test_runs_say_where_they_were():
  there = merging.located(of(0), "../lab")
  assert {m.runs[0].workdir for m in there.models.values()} == {"../lab"}
  assert merging.located(there, "elsewhere") == there


@pytest.mark.parametrize(
  ("other", "message"),
  [
    (of(9, task="facts"), "task is arithmetic in run1 and facts in other"),
    (
      with_protocol(of(9), data={"num_evaluation": 7}),
      "protocol/data/num_evaluation is nothing in run1 and 7 in other",
    ),
    (
      with_protocol(of(9), attacks={"relearn": {"num_steps": 7}}),
      "attacks/relearn/num_steps is nothing in run1 and 7 in other",
    ),
    (
      dataclasses.replace(of(9), metrics=made_up.language().metrics),
      "metrics/retain/name is accuracy in run1 and cross-entropy in other",
    ),
  ],
)
def test_protocols_that_differ_are_refused_by_field(other, message):
  with pytest.raises(ConfigError, match=message):
    merging.merge({"run1": of(1), "other": other})


def test_attacks_that_only_one_of_them_has_are_kept():
  both = of(0, second_attack=True)
  described = {"relearn": {}, "lora": {"rank": 8}}
  both = with_protocol(both, attacks=described)
  merged = merging.merge({"one": of(1), "two": both})
  assert list(merged.attacks) == ["relearn", "lora"]
  assert merged.protocol["attacks"] == described
