"""Edits in a config: what is refused, and which stages they become."""

import dataclasses

import pytest

from tests.plan.plans import TINY, identities, overridden, plan
from undo_jax.plan import checks, stages
from undo_jax.plan.config import parse
from undo_jax.plan.stages import EditStage
from undo_jax.tasks import arithmetic
from undo_jax.utils import records
from undo_jax.utils.types import ConfigError

TASK = dataclasses.replace(arithmetic.TASK, worked=None)
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


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"strengths": (3,)},
      r"strengths: expected layers, whole numbers in \[0, 3\), got",
    ),
    ({"mixture__forget": "none"}, "mixture.forget: expected one of .*'none'"),
    (
      {"mixture__forget": "distill"},
      "mixture.forget: expected a mixture of forget data",
    ),
    ({"mixture__retain": "attack"}, "mixture.retain: expected a mixture of no forget"),
    ({"rows": 0}, "rows: expected an integer of at least 1, got 0"),
    (
      {"edit": "pruning", "strengths": (0.5,)},
      "mixture: expected None, as it reads no",
    ),
  ],
)
def test_rows_that_an_edit_cannot_read_are_named(change, message):
  changes = {f"attacks__direction_ablation__{k}": v for k, v in change.items()}
  expected = f"config.attacks.direction_ablation.{message}"
  with pytest.raises(ConfigError, match=expected) as error:
    check(**run("direction_ablation"), **changes)
  assert "\n" not in str(error.value)


def test_rows_and_examples_are_drawn_by_the_attacks_stream():
  made = {s.name: s for s in plan(**run("direction_ablation", "few_shot"))}
  direction, examples = (made[f"{n}_rmu"] for n in ("direction_ablation", "few_shot"))
  assert [*direction.seeds] == [*examples.seeds] == ["attack"]
  assert direction.parts == {"forget": {"attack": 1.0}, "retain": {"retain": 1.0}}
  assert direction.rows == {"forget": 128, "retain": 128} and direction.length == 16
  assert examples.parts is None and not examples.rows
  for stage in (direction, examples):
    assert stages.from_json(stages.to_json(stage), path="config.json") == stage


def test_a_task_without_worked_examples_has_no_few_shot_prompts():
  expected = "few_shot.edit: expected another edit, since the task .* has no worked"
  with pytest.raises(ConfigError, match=expected):
    check(**run("few_shot"), task="tests.plan.edit_checks_test:TASK")


def test_a_prompt_is_no_longer_than_a_row():
  check(**run("gcg"), attacks__gcg__strengths=(4, 16))
  expected = "gcg.strengths: expected prompts of at most 16 tokens, a row's length, got"
  with pytest.raises(ConfigError, match=expected):
    check(**run("gcg"), attacks__gcg__strengths=(4, 17))


def test_no_worst_case_is_over_a_diagnostic():
  check(**run("logit_lens", "probe_1"))
  for name in ("logit_lens", "probe_1"):
    with pytest.raises(ConfigError, match="worst_over: expected attacks, no diagnost"):
      check(**run(name), report__worst_over=("relearn", name))


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
