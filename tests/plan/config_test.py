"""The typed config: sweeps spelled out, entries left out, references."""

import math

import pytest

from tests.plan.plans import overridden
from undo_jax.plan import translation
from undo_jax.plan.config import parse, plain
from undo_jax.utils.types import ConfigError


def test_a_sweep_over_teachers_streams_and_strengths():
  config = overridden()
  config.models.undo.sweep = {
    "frozen": {"teacher": ("max_ent", "rmu")},
    "noise": {"alpha": (0.5,)},
    "streams": {"noise": (1, 2)},
  }
  by_name = {stage.name: stage for stage in translation.plan(parse(config), 0)}
  names = [
    f"undo_teacher_{teacher}_alpha_0.5_noise_{seed}"
    for teacher in ("max_ent", "rmu")
    for seed in (1, 2)
  ]
  assert set(names) <= set(by_name)
  stage = by_name[names[-1]]
  assert (stage.init, stage.frozen, stage.seeds["noise"]) == (
    "rmu",
    {"teacher": "rmu"},
    2,
  )


def test_members_of_a_sweep_know_their_family_and_what_was_swept():
  config = overridden(models__undo__sweep={"noise": {"alpha": (0.3, 1.0)}})
  models = parse(config).models
  assert "undo" not in models
  for alpha in (0.3, 1.0):
    member = models[f"undo_alpha_{alpha:g}"]
    assert (member.noise.alpha, member.family) == (alpha, "undo")
    assert dict(member.swept) == {"noise.alpha": alpha} and not member.sweep


def test_an_error_names_the_swept_entry_and_not_its_member():
  config = overridden(models__undo__sweep={"noise": {"alpha": (0.3, 1.2)}})
  with pytest.raises(ConfigError, match=r"config\.models\.undo\.noise\.alpha: "):
    parse(config)


def test_what_cannot_be_swept_is_told():
  config = overridden(models__undo__sweep={"noise": {"gamma": (0.3,)}})
  with pytest.raises(ConfigError, match="fields that the entry has, got 'noise.gamma'"):
    parse(config)
  config = plain(overridden(models__undo__sweep={"noise": {"alpha": (0.3,)}}))
  config["models"]["undo_alpha_0.3"] = config["models"]["max_ent"]
  with pytest.raises(ConfigError, match="'undo_alpha_0.3' is there twice"):
    parse(config)


def test_a_reference_is_an_entry_that_is_run_or_nothing():
  config = overridden(models__max_ent__run=False)
  assert config.references.unlearned == "max_ent"
  parsed = parse(config)
  assert parsed.references.unlearned is None and "max_ent" not in parsed.models
  assert parsed.references.base == "base"
  config.references.unlearned = "nobody"
  message = "config.references.unlearned: expected None or one of .*'nobody'"
  with pytest.raises(ConfigError, match=message):
    parse(config)


def test_a_config_as_json_has_lists_and_no_infinity():
  values = {"clip_norm": math.inf, "a": {"clip_norm": 1.0, "b": (1, (2,))}}
  expected = {"clip_norm": None, "a": {"clip_norm": 1.0, "b": [1, [2]]}}
  assert plain(values) == expected
