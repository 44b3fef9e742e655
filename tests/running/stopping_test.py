"""When a student has recovered its teacher, and rules that cannot work."""

import dataclasses
import types
from typing import Any

import pytest

from tests.running.variants import variant_run
from undo_jax import config as builders
from undo_jax import running
from undo_jax.plan import translation
from undo_jax.plan.config import Stop, parse
from undo_jax.running import stopping
from undo_jax.utils.types import ConfigError


def test_a_stop_rule_on_an_unknown_score_ends_before_the_first_model(tmp_path):
  run = variant_run(tmp_path, **{"models.undo.stop.options.scores": ("english",)})
  with pytest.raises(
    ConfigError, match="among retain, forget, .*, addition.*got 'english'"
  ):
    running.run_stages(run)
  assert run.done("data") and not run.done("base")


@pytest.mark.parametrize(
  ("task", "scores", "better"),
  [
    ("arithmetic", ("retain",), {"retain": 0.9}),
    ("arithmetic", ("addition_equation", "forget"), {"forget": 0.9}),
    ("arithmetic", ("english",), {"english": 0.1}),
    ("language", ("retain", "forget"), {"retain": 0.1, "forget": 0.1}),
  ],
)
def test_a_stop_rule_knows_which_way_a_score_gets_better(task, scores, better):
  teacher = dict.fromkeys(("retain", "forget", "addition_equation", "english"), 0.5)
  stop = Stop(
    rule="recovered",
    evaluate_every=1,
    options={"tolerance": 0.05, "relative": True, "scores": list(scores)},
  )
  student = next(
    stage
    for stage in translation.plan(parse(builders.shipped("arithmetic:tiny")), 0)
    if stage.name == "undo_alpha_0.3"
  )
  stage = dataclasses.replace(student, task=task, stop=stop)
  run: Any = types.SimpleNamespace(
    done=lambda name: {"validation": teacher, "scores": {}}
  )
  rule = stopping.stop_rule(run, stage)
  assert rule is not None
  worse = {name: 1.0 - value for name, value in better.items()}
  assert rule(teacher) and rule(teacher | better) and not rule(teacher | worse)
  assert stopping.stop_rule(run, dataclasses.replace(stage, stop=None)) is None
