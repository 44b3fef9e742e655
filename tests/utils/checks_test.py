"""Wrong fields of a config: what is refused, and how it is told."""

import dataclasses
import math
import types

import pytest

from undo_jax.utils import checks
from undo_jax.utils.types import ConfigError


@dataclasses.dataclass
class Inner:
  size: object = 1


def config(size=1, **fields):
  return {"inner": Inner(size), "flat": {"inner": {"size": size}}, **fields}


def test_a_field_is_found_in_dicts_and_in_records():
  values = config(size=7)
  assert checks.field(values, "inner.size") == 7
  assert checks.field(values, "flat.inner.size") == 7


def test_a_refusal_names_the_field_what_is_expected_and_the_flag():
  message = r"config.rates\[1\]: expected a number, got 'x'; set it by --config.rates="
  with pytest.raises(ConfigError, match=message):
    checks.fail("rates[1]", "a number", "x")


@pytest.mark.parametrize(
  ("value", "good"),
  [(2, True), (2**31 - 1, True), (1, False), (2**31, False), (2.0, False)]
  + [("2", False), (None, False)],
)
def test_an_integer_has_a_bound_on_either_side(value, good):
  if good:
    checks.at_least(config(size=value), "inner.size", 2)
    return
  with pytest.raises(
    ConfigError, match="inner.size: expected an integer of at least 2"
  ):
    checks.at_least(config(size=value), "inner.size", 2)


def test_true_is_no_integer():
  with pytest.raises(ConfigError, match="an integer of at least 1, got True"):
    checks.at_least(config(size=True), "inner.size", 1)


def test_integers_are_some_and_none_below_the_smallest():
  checks.integers({"x": (3, 2)}, "x", 2)
  for wrong in ((), (3, 1), (2.5,)):
    with pytest.raises(ConfigError, match="none below 2"):
      checks.integers({"x": wrong}, "x", 2)


def test_numbers_are_finite_and_above_their_bound():
  checks.numbers({"x": (0.5, 2)}, "x", above=0)
  checks.numbers({"x": (-5,)}, "x")
  for wrong in ((), (0.0,), (1.0, math.nan), (math.inf,), (True,)):
    with pytest.raises(ConfigError, match="at least one number, all above 0, got"):
      checks.numbers({"x": wrong}, "x", above=0)


def test_seeds_are_some_and_distinct():
  checks.seeds(types.SimpleNamespace(seeds=(0, 3)))
  for wrong in ((), (1, 1), (-1,), (0.5,)):
    with pytest.raises(
      ConfigError, match="config.seeds: expected at least one integer"
    ):
      checks.seeds(types.SimpleNamespace(seeds=wrong))


def test_a_share_lies_in_the_unit_interval_ends_included():
  for good in (0, 0.5, 1):
    checks.unit("share", good)
  for wrong in (-0.01, 1.01, math.nan, True, "1"):
    with pytest.raises(
      ConfigError, match=r"config.share: expected a number in \[0, 1\]"
    ):
      checks.unit("share", wrong)
