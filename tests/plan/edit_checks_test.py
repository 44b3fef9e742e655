"""Edits in a config: what is refused, and which stages they become."""

import pytest

from tests.plan.plans import TINY, identities, overridden, plan
from undo_jax.plan import checks, stages
from undo_jax.plan.config import parse
from undo_jax.plan.stages import EditStage
from undo_jax.utils import records
from undo_jax.utils.types import ConfigError

ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}
ALL = ("pruning", "quantization", "weight_noise")
WITH_BASE = ("interpolation_to_base", "difference_rank")


def run(*names, **changes):
  return {f"attacks__{name}__run": True for name in names} | changes


def check(**changes):
  checks.check(parse(overridden(**changes)), ONE_DEVICE)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("strengths", (1.5,), r"pruning.strengths: expected shares in \[0, 1\), got 1.5"),
    ("strengths", (), r"pruning.strengths: expected at least one number, got \(\)"),
    ("strengths", (0.1, 0.1), "pruning.strengths: expected values that differ"),
    ("options__scope", "layer", "pruning.options.scope: expected 'matrix' or 'all'"),
    ("edit", "distillation", "pruning: expected as edit one of pruning, quantization"),
    ("models", ("bose",), "pruning.models: expected some of base, .*'bose'"),
    ("seeds", (1,), r"pruning.seeds: expected \(\), since pruning draws nothing"),
    ("stream", "noises", "pruning.stream: expected one of init, "),
  ],
)
def test_a_wrong_value_of_an_edit_is_named(field, value, message):
  with pytest.raises(ConfigError, match=f"config.attacks.{message}") as error:
    check(**run("pruning"), **{f"attacks__pruning__{field}": value})
  assert "\n" not in str(error.value)


def test_a_field_that_an_edit_has_not_is_named_without_more():
  config = overridden(**run("pruning"))
  config.attacks.pruning.num_steps = 5
  expected = r"^config.attacks.pruning.num_steps: there is no such field"
  with pytest.raises(ConfigError, match=expected):
    parse(config)
  del config.attacks.pruning.num_steps, config.attacks.pruning.strengths
  expected = r"^config.attacks.pruning.strengths: expected a value, got none"
  with pytest.raises(ConfigError, match=expected):
    parse(config)


@pytest.mark.parametrize("name", WITH_BASE)
def test_an_edit_that_reads_the_base_needs_one(name):
  check(**run(name))
  expected = f"config.attacks.{name}.edit: expected an edit that does without the base"
  with pytest.raises(ConfigError, match=expected):
    check(**run(name), references__base=None)


def test_edits_alone_need_no_budgets():
  check(**run(*ALL), attacks__relearn__run=False)


def test_edits_are_stages_of_their_own_and_leave_the_others_names():
  made = plan(**run(*ALL, *WITH_BASE), attacks__weight_noise__seeds=(0, 7))
  known = stages.identities(made)
  assert {name: known[name] for name in TINY} == identities()
  new = {stage.name: stage for stage in made if stage.name not in TINY}
  assert len(new) == 6 * 10 and all(isinstance(x, EditStage) for x in new.values())
  assert len({known[name] for name in new}) == len(new)
  assert new["pruning_rmu"].inputs == {"data": "data", "model": "rmu"}
  assert new["pruning_rmu"].seeds == {}
  drawn = [new[f"weight_noise_seed{seed}_rmu"].seeds["attack"] for seed in (0, 7)]
  assert drawn[0] != drawn[1]
  reads = {"data": "data", "model": "rmu", "base": "base"}
  assert all(new[f"{name}_rmu"].inputs == reads for name in WITH_BASE)
  for stage in new.values():
    assert stages.from_json(stages.to_json(stage), path="config.json") == stage


def test_an_edit_of_other_strengths_or_of_another_base_is_another():
  before = identities(**run("pruning", *WITH_BASE))
  stronger = identities(
    **run("pruning", *WITH_BASE), attacks__pruning__strengths=(0.1, 0.6)
  )
  changed = {name for name in before if before[name] != stronger[name]}
  assert changed == {name for name in before if name.startswith("pruning_")}
  based = identities(**run("pruning", *WITH_BASE), references__base="data_filtering")
  changed = {name for name in before if before[name] != based[name]}
  assert changed == {name for name in before if name.startswith(WITH_BASE)}


def test_what_the_base_is_called_is_no_part_of_an_edit():
  names = ("data", "base", "max_ent", "interpolation_to_base_max_ent")
  made = [s for s in plan(**run("interpolation_to_base")) if s.name in names]

  def renamed(stage):
    fields = ("name", "init", "base")
    changes = {f: "first" for f in fields if getattr(stage, f, None) == "base"}
    return records.replaced(stage, **changes)

  known = stages.identities(made), stages.identities([*map(renamed, made)])
  assert [*known[0].values()] == [*known[1].values()] and len(made) == 4
