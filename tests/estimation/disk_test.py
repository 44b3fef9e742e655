"""The disk space of stages, against counts by hand."""

import types

import pytest

from tests import minimal
from undo_jax import config as c
from undo_jax import testing
from undo_jax.estimation import disk
from undo_jax.models.config import num_params
from undo_jax.plan import translation
from undo_jax.plan.config import Reserve, parse
from undo_jax.plan.stages import AblateStage
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


@pytest.fixture(scope="module")
def stages():
  config = minimal.config()
  config.attacks.lora = c.lora(
    config.attacks.relearn, rank=2, learning_rates=(1e-3, 1e-2, 1e-1)
  )
  config.models.undo.teacher_predictions.update(keep=True)
  config.models.undo.options.teacher_top_k = 3
  return {stage.name: stage for stage in translation.plan(parse(config), 0)}


def test_a_finished_stage_keeps_its_weights(stages):
  mesh = testing.mesh(1)
  model = stages["base"].model
  weights = 4 * num_params(model)
  assert disk.kept_bytes(stages["base"], mesh) == weights
  assert disk.kept_bytes(stages["relearn_base"], mesh) == 2 * weights
  # Two matrices of rank 2 at each of the seven of a layer.
  query, key = (n * model.head_dim for n in (model.num_heads, model.num_kv_heads))
  ends = 2 * (model.width + query) + 2 * (model.width + key)
  ends += 3 * (model.width + model.mlp_width)
  lora = 3 * 4 * model.num_layers * 2 * ends
  assert disk.kept_bytes(stages["lora_base"], mesh) == lora
  assert disk.kept_bytes(stages["data"], mesh) == 0
  ablated = AblateStage(
    name="ablated", task="arithmetic", model=model, whole="base", reserve=Reserve()
  )
  assert disk.kept_bytes(ablated, mesh) == weights


def test_attacks_of_tasks_with_scores_of_their_own_keep_their_members_too():
  config = c.shipped("wmdp:tiny")
  stages = {stage.name: stage for stage in translation.plan(parse(config), 0)}
  stage = stages["qa_base"]
  kept = disk.kept_bytes(stage, testing.mesh(1))
  assert kept == 4 * len(stage.learning_rates) * num_params(stage.model)


def test_predictions_are_kept_of_every_row(stages):
  (name,) = (name for name in stages if name.startswith("predictions"))
  stage, mesh = stages[name], testing.mesh(1)
  rows = dict.fromkeys(stage.splits, 10)
  # A logarithm of each of three tokens and its number in a byte; that of all others.
  position = 3 * (4 + 1) + 4
  expected = len(rows) * 10 * stage.length * position
  assert disk.kept_bytes(stage, mesh, rows) == expected
  assert disk.kept_bytes(stage, mesh) == 0


def test_a_stage_that_trains_has_its_moments_too(stages):
  mesh = testing.mesh(1)
  weights = 4 * num_params(stages["base"].model)
  opened = disk.open_bytes(stages["base"], mesh, num_kept=2)
  # Weights and Adam's two moments, thrice; counters are a few bytes.
  assert 9 * weights < opened < 9 * weights + 100
  assert disk.open_bytes(stages["data"], mesh, num_kept=2) == 0


def test_an_attack_has_the_moments_of_members_at_once(stages):
  stage, mesh = stages["relearn_base"], testing.mesh(1)
  weights, members = 4 * num_params(stage.model), len(stage.learning_rates)
  assert members > 1
  for at_once, moments in ((None, 2 * members), (1, 2)):
    opened = disk.open_bytes(stage, mesh, 2, replicas_at_once=at_once)
    expected = 3 * (members + moments) * weights
    assert expected < opened < expected + 100 * members


def test_what_is_not_free_is_refused(tmp_path, monkeypatch, capsys):
  usage = types.SimpleNamespace(free=2**30)
  monkeypatch.setattr(disk.shutil, "disk_usage", lambda directory: usage)
  workdir = files.path(str(tmp_path / "runs" / "new"))
  disk.check(workdir, 2**30, 2**31)
  assert (
    capsys.readouterr().out == "on disk: 1 GiB, and up to 2 GiB while a stage trains\n"
  )
  with pytest.raises(
    ConfigError, match="at most 1 GiB, which is what is free, got 2 GiB"
  ):
    disk.check(workdir, 2**31, 0)
  monkeypatch.setattr(disk.files, "is_remote", lambda path: True)
  disk.check(workdir, 2**31, 0)  # A store has no end.
