"""results.json gives back what was written, and says what it cannot read."""

import json

import pytest

from tests.frontier.made_up import synthetic
from undo_jax.frontier import results
from undo_jax.utils.errors import ConfigError


@pytest.mark.parametrize(("before", "now"), [(None, ()), ("short", ("short",))])
def test_earlier_results_named_one_filtering_or_none(before, now):
  value = results.to_json(synthetic())
  value["report"]["filtering"] = before
  assert results.from_json(value, path="results.json").report.filtering == now


def test_json_gives_back_the_records():
  made = synthetic(seeds=(0, 3), second_attack=True)
  text = json.dumps(results.to_json(made))
  assert results.from_json(json.loads(text), path="x") == made


def test_what_is_no_result_is_named():
  value = results.to_json(synthetic())
  with pytest.raises(ConfigError, match="results.json: expected .* schema 3, got 2"):
    results.from_json(value | {"schema": 2}, path="results.json")
  with pytest.raises(ConfigError, match="x.models.base.label: .* string"):
    value["models"]["base"]["label"] = 3
    results.from_json(value, path="x")
