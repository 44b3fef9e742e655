"""Tests of the stop rules at the thresholds of the paper."""

from decimal import Decimal
import sys

import numpy as np
import pytest

from undo_jax.training.stop_rules import RULES, Recovery, recovered
from undo_jax.utils.types import ConfigError

ARITHMETIC = Recovery(tolerance=0.05, relative=False)
LANGUAGE = Recovery(tolerance=0.05, relative=True)


def accuracy(student, teacher, rule=ARITHMETIC):
  return recovered(rule, {"retain": student}, {"retain": teacher})


def cross_entropy(student, teacher, rule=LANGUAGE):
  return recovered(rule, {"retain": student}, {"retain": teacher}, falling=("retain",))


@pytest.mark.parametrize(
  ("student", "teacher", "stops"),
  [
    (0.77, 0.82, False),  # 0.05 less is not less than 0.05 less.
    (0.7725, 0.82, True),
    (0.7675, 0.82, False),
    (0.95, 1.0, False),
    (0.9525, 1.0, True),
    (0.99, 0.82, True),  # Better than the teacher.
    (0.0, 0.05, False),
    (0.0, 0.0475, True),
  ],
)
def test_accuracies_may_miss_less_than_the_tolerance(student, teacher, stops):
  assert accuracy(student, teacher) is stops


@pytest.mark.parametrize(
  ("student", "teacher", "stops"),
  [
    (4.2, 4.0, False),  # (4.2 - 4) / 4 = 0.05.
    (4.19, 4.0, True),
    (4.21, 4.0, False),
    (3.0, 4.0, True),
    (2.1, 2.0, False),
    (2.05, 2.0, True),  # Above 0.05 absolute would be 0.05 already.
  ],
)
def test_cross_entropies_may_rise_by_less_than_a_share(student, teacher, stops):
  assert cross_entropy(student, teacher) is stops


@pytest.mark.parametrize("relative", [False, True])
def test_thresholds_are_strict_whatever_the_rounding(relative):
  """All pairs of accuracies in steps of 1/200, against exact decimals."""
  rule = Recovery(tolerance=0.05, relative=relative)
  for k in range(201):
    for m in range(max(0, k - 15), k + 1):
      teacher, student = Decimal(k) / 200, Decimal(m) / 200
      limit = Decimal("0.05") * (teacher if relative else 1)
      expected = teacher - student < limit
      values = (float(np.float32(float(x))) for x in (student, teacher))
      assert accuracy(*values, rule) is expected, (student, teacher)


def test_relative_and_absolute_differ():
  assert accuracy(0.48, 0.5) and not accuracy(0.47, 0.5, LANGUAGE)
  assert accuracy(0.476, 0.5, LANGUAGE) and not accuracy(0.4749, 0.5, LANGUAGE)


TEACHER = {"retain": 0.9, "forget": 0.2, "addition": 0.8, "english": 3.0}


@pytest.mark.parametrize(
  ("scores", "student", "stops"),
  [
    (("retain",), {"retain": 0.9, "forget": 0.0}, True),
    (("forget",), {"retain": 0.0, "forget": 0.19}, True),
    (("forget",), {"retain": 0.9, "forget": 0.1}, False),
    (("retain", "forget"), {"retain": 0.9, "forget": 0.19}, True),
    (("retain", "forget"), {"retain": 0.9, "forget": 0.1}, False),
    (("retain", "forget"), {"retain": 0.8, "forget": 0.19}, False),
    (("addition",), {"addition": 0.79}, True),
    (("english",), {"english": 3.04}, True),
    (("english",), {"english": 3.06}, False),
    (("retain", "english"), {"retain": 0.9, "english": 3.06}, False),
    ((), {"retain": 1.0}, False),  # A fixed budget.
  ],
)
def test_all_scores_of_the_rule_must_recover(scores, student, stops):
  rule = Recovery(tolerance=0.05, relative=False, scores=scores)
  assert recovered(rule, student, TEACHER, falling=("english",)) is stops


def test_the_teacher_itself_has_recovered():
  assert accuracy(0.3, 0.3) and cross_entropy(2.5, 2.5)
  # But a tolerance of zero asks for more.
  assert not accuracy(0.3, 0.3, Recovery(tolerance=0.0, relative=False))


def test_a_score_that_is_not_there_is_an_error():
  rule = Recovery(tolerance=0.05, relative=True, scores=("english", "korean"))
  with pytest.raises(ConfigError, match="'korean'; there are retain, .*english"):
    recovered(rule, TEACHER, TEACHER)


# ---- Rules by name.

OPTIONS = {"tolerance": 0.05, "relative": False, "scores": ["retain", "english"]}


@pytest.mark.parametrize(
  ("student", "stops"),
  [
    ({"retain": 0.9, "english": 3.0}, True),
    ({"retain": 0.9, "english": 3.06}, False),
    ({"retain": 0.8, "english": 3.0}, False),
  ],
)
def test_the_rule_of_a_config_is_the_function(student, stops):
  rule = RULES.get("recovered")
  rule.check(OPTIONS)
  assert rule.reads_teacher
  assert rule.make(OPTIONS, TEACHER, ("english",))(student) is stops


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"tolerance": -0.1}, r"options.tolerance: expected .* \[0, 1\], got -0.1"),
    ({"tolerance": "low"}, "options.tolerance: expected a valid number, got 'low'"),
    ({"relative": 1}, "options.relative: expected a valid boolean, got 1"),
    ({"scores": "retain"}, "options.scores: expected .*, got 'retain'"),
    ({"score": "retain"}, "options.score: there is no such field"),
  ],
)
def test_options_that_cannot_work_are_errors(changes, message):
  with pytest.raises(ConfigError, match=message):
    RULES.get("recovered").check(OPTIONS | changes)


THEIRS = """
from undo_jax.training.stop_rules import StopRule
from undo_jax.utils.records import FieldError


def make(options, teacher, falling):
  assert not teacher and not falling
  return lambda student: student["forget"] <= options["most"]


def check(options):
  if set(options) != {"most"}:
    raise FieldError("options", "most", sorted(options))


FORGOTTEN = StopRule(make=make, check=check, reads_teacher=False)
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
  """A module of someone else, with a rule."""
  (tmp_path / "their_rules.py").write_text(THEIRS)
  monkeypatch.syspath_prepend(tmp_path)
  yield "their_rules"
  sys.modules.pop("their_rules", None)


def test_a_rule_may_be_someone_elses(theirs):
  rule = RULES.get(f"{theirs}:FORGOTTEN")
  assert not rule.reads_teacher
  rule.check({"most": 0.1})
  with pytest.raises(ConfigError, match="options: expected most"):
    rule.check({})
  should_stop = rule.make({"most": 0.1}, {}, ())
  assert should_stop({"forget": 0.1}) and not should_stop({"forget": 0.2})


@pytest.mark.parametrize(
  "name", ["recover", "their_rules:make", "their_rules:NONE", "no_such_module:RULE"]
)
def test_what_is_no_rule_is_told_in_one_line(theirs, name):
  with pytest.raises(ConfigError) as error:
    RULES.get(name)
  assert name in str(error.value) and "\n" not in str(error.value)
