"""Which way scores go."""

import types

import pytest

from undo_jax.evaluation import metrics


def test_more_right_answers_are_worse_where_they_were_to_be_forgotten():
  assert metrics.higher_is_worse(metrics.accuracy("questions"))
  assert metrics.higher_is_worse(metrics.probability("answers"))
  assert not metrics.higher_is_worse(metrics.cross_entropy("documents"))


@pytest.mark.parametrize("higher_is, worse", [("more capable", 1), ("less capable", 0)])
def test_a_record_says_the_same_as_a_mapping(higher_is, worse):
  for metric in ({"higher_is": higher_is}, types.SimpleNamespace(higher_is=higher_is)):
    assert metrics.higher_is_worse(metric) == worse


def test_a_direction_that_is_none_is_refused():
  with pytest.raises(ValueError, match="'better'"):
    metrics.higher_is_worse({"higher_is": "better"})
