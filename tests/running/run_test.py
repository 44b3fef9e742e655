"""What all stages of a run share: where they lie, and scores as JSON has them."""

import json

import numpy as np
import pytest

from tests.running.variants import variant_run
from undo_jax.plan.stages import identities
from undo_jax.running import run as run_lib


def test_scores_are_the_shortest_decimals_that_give_them_back():
  values = np.float32([0.1, 1 / 3, 2.0])
  got = run_lib.rounded(values)
  assert json.dumps(got) == "[0.1, 0.33333334, 2.0]"
  np.testing.assert_array_equal(np.float32(got), values)
  assert run_lib.rounded(np.float32(0.3)) == 0.3
  assert run_lib.rounded(np.float32([np.nan, np.inf])) == [None, None]


def test_a_stage_lies_under_its_name_and_identity(tmp_path):
  run = variant_run(tmp_path)
  known = identities(run.stages)
  assert run.directories["base"] == tmp_path / "stages" / f"base-{known['base']}"
  assert run.data.name == "data" and run.done("base") is None
  run.directories["base"].mkdir(parents=True)
  (run.directories["base"] / "done.json").write_text('{"updates": 2}')
  assert run.done("base") == {"updates": 2}


def test_scores_by_task_come_last(tmp_path, monkeypatch):
  scored = {"words": 0.1, "forget_attacked": 0.2, "forget": 0.3, "retain": 0.4}
  monkeypatch.setattr(run_lib.programs, "evaluate", lambda *_: lambda *_: scored)
  run = variant_run(tmp_path)
  scores = run_lib.scorer_of(run, run.stages[1], ("words",))({}, {})
  assert list(scores.items()) == list(reversed(scored.items()))


def test_a_model_without_a_score_is_none_to_go_on_from():
  scores = {"retain": 0.5, "forget": 0.0, "words": None}
  assert run_lib.finite("base", scores) is scores
  with pytest.raises(FloatingPointError, match="^base: the scores forget are not fin"):
    run_lib.finite("base", scores | {"forget": None})
