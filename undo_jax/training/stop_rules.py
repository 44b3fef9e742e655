"""When a student has recovered its teacher, and distillation may stop."""

from collections.abc import Callable, Collection, Mapping
import dataclasses

from undo_jax.utils import records
from undo_jax.utils.registry import Registry
from undo_jax.utils.types import ConfigError, Options

# Scores are float32: a gap so near the tolerance is the tolerance.
ROUNDING = 1e-6


ShouldStop = Callable[[Mapping[str, float]], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopRule:
  """When a stage ends before its last step: the record of a rule."""

  # (options, the teacher's scores, names of scores where less is better) -> a function
  # of the student's scores; raises ConfigError where options do not fit.
  make: Callable[[Options, Mapping[str, float], Collection[str]], ShouldStop]
  # Raises ConfigError where options cannot work, before any compute.
  check: Callable[[Options], None]
  reads_teacher: bool = True  # Else the teacher's scores are {}.


@records.record
class Recovery:
  """Which scores must come near to the teacher's, and how near; all of them must."""

  tolerance: float  # Gap that is too large already; >= 0.
  relative: bool  # The gap is a share of the teacher's score, or else absolute.
  scores: tuple[str, ...] = ("retain",)  # Empty: never, a fixed budget.

  def __post_init__(self):
    records.unit(self, "tolerance")


def recovered(
  rule: Recovery,
  student: Mapping[str, float],
  teacher: Mapping[str, float],
  *,
  falling: Collection[str] = (),
) -> bool:
  """Whether the gap of every score of the rule is below the tolerance.

  gap = teacher - student, or student - teacher where less is better, divided by
  |teacher| if relative;  gap < tolerance, strictly

  Args:
    rule: the scores and the tolerance.
    student: its scores by name.
    teacher: its scores by name.
    falling: names of the scores where less is better (cross-entropy).

  Raises:
    ConfigError: if a score of the rule is not among the scores.

  Reference: UNDO, arXiv 2506.06278, section 5: 95% of the teacher's retain
  performance (relative for cross-entropy, 0.05 absolute for accuracy).
  """
  for name in rule.scores:
    if name not in student or name not in teacher:
      raise ConfigError(
        f"a stop rule asks for the score {name!r}; there are {', '.join(teacher)}"
      )

  def gap(name):
    difference = teacher[name] - student[name]
    return -difference if name in falling else difference

  def limit(name):
    return rule.tolerance * (abs(teacher[name]) if rule.relative else 1.0)

  near = (gap(name) < limit(name) - ROUNDING for name in rule.scores)
  return bool(rule.scores) and all(near)


def _make(options, teacher, falling) -> ShouldStop:
  rule = records.from_json(Recovery, dict(options), path="options")
  return lambda student: recovered(rule, student, teacher, falling=falling)


def _check(options) -> None:
  records.from_json(Recovery, dict(options), path="options")


RECOVERED = StopRule(make=_make, check=_check)
RULES: Registry[StopRule] = Registry("stop rule", StopRule, {"recovered": RECOVERED})
