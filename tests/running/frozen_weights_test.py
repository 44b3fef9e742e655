"""Attacks that leave the weights as they are, as stages: trained, scored, shown."""

import functools
import re

import jax
import numpy as np
import pytest

from tests import minimal
from tests.running import drawn
from tests.running.variants import params_of
from undo_jax import attacks, running, tasks, testing
from undo_jax.checkpoints import exporting
from undo_jax.data import pipeline
from undo_jax.frontier import reading, report, robustness
from undo_jax.hardware.flops import forward_flops
from undo_jax.models.decoder import Decoder
from undo_jax.plan import checks
from undo_jax.plan.config import parse
from undo_jax.plan.stages import EditStage
from undo_jax.running import programs
from undo_jax.running.data import batches_of
from undo_jax.running.run import problems_of
from undo_jax.training.checkpointing import load_params
from undo_jax.utils.types import ConfigError

MODELS = ("base", "max_ent")
TASK = "tests.running.attack_test:TASK"  # Scores that no two models have in common.
NAMES = ("logit_calibration", "soft_prompt", "latent_push", "probe_1")
RATES = (1e-9, 0.5)


@functools.cache
def declared():
  config = minimal.only(minimal.config(), MODELS)
  config.task = TASK
  config.attacks.relearn.run = False
  for name in NAMES:
    entry = config.attacks[name]
    entry.update(run=True, learning_rates=RATES, models=("max_ent",))
  config.attacks.direction_ablation.update(run=True, strengths=(1,), rows=8)
  config.attacks.direction_ablation.models = ("max_ent",)
  config.attacks.few_shot.update(run=True, strengths=(2,), models=("max_ent",))
  config.attacks.latent_push.options.radius = 0.1
  config.attacks.logit_lens.update(run=True, strengths=(1,), models=("max_ent",))
  parsed = parse(config)
  checks.check(parsed, dict(testing.mesh(1).shape))
  return parsed


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  run = drawn.made(
    tmp_path_factory.mktemp("frozen"), testing.mesh(1), declared(), MODELS
  )
  running.run_shared([run])
  return run


def trained_by(run, name):
  """Return what the members of an attack have trained at its end."""
  (stage,) = (each for each in run.stages if each.name == name)
  program = programs.attack_of(stage, run.mesh, problems_of(run)[0], 64, None)
  place = run.directories[name] / "checkpoints"
  return jax.device_get(load_params(place, program.abstract.params))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_what_was_trained_beside_the_weights(finished, name):
  outcome = finished.done(f"{name}_max_ent")
  entry, model = declared().attacks[name], declared().model
  members = attacks.members_of(model, entry.adversary, entry.options)
  trained = trained_by(finished, f"{name}_max_ent")
  frozen = {"base": params_of(finished, "max_ent")}
  names, problems = problems_of(finished)
  make = tasks.get(TASK).make_evaluate

  @jax.jit
  def scores(trained):
    plain, after = (
      make(apply, names, rows_at_once=64)
      for apply in (Decoder(model).apply, members.apply)
    )
    return plain(frozen["base"], problems), after(
      members.weights(trained, frozen), problems
    )

  for rate, curve in enumerate(outcome["scores"]["forget"]):
    before, after = scores(jax.tree.map(lambda x, i=rate: x[i], trained))
    np.testing.assert_allclose(curve[0], before["forget"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(curve[-1], after["forget"], rtol=1e-4, atol=1e-5)
  lowest, highest = (curve[-1] for curve in outcome["scores"]["forget"])
  assert lowest != highest and outcome["steps"] == [0, 2, 4]
  if name == "latent_push":  # The last update was projected.
    lengths = np.sqrt(np.mean(np.square(trained["push"]), axis=1))
    np.testing.assert_allclose(lengths[1], 0.1, rtol=1e-5)


def test_an_edit_of_rows_is_scored_without_its_direction(finished):
  outcome, model = finished.done("direction_ablation_max_ent"), declared().model
  (stage,) = (s for s in finished.stages if s.name == "direction_ablation_max_ent")
  assert isinstance(stage, EditStage)
  batch = next(pipeline.iterator(batches_of(finished, stage)))
  assert {name: part["inputs"].shape for name, part in batch.items()} == {
    "forget": (8, 16),
    "retain": (8, 16),
  }
  names, problems = problems_of(finished)
  params, beside = params_of(finished, "max_ent"), attacks.EDITS.get(stage.edit).beside
  assert beside is not None and beside.passes(1.0, None, 8) == 16
  apply = beside.using(model, 1.0, None, Decoder(model).apply)
  score = tasks.get(TASK).make_evaluate(apply, names, rows_at_once=64)

  @jax.jit
  def expected(params):
    vectors = beside.find(model, params, batch, 1.0, jax.random.key(0), None)
    return score(vectors | {"base": params}, problems)["forget"]

  (before,) = outcome["scores"]["forget"][0]
  np.testing.assert_allclose(before, expected(params), rtol=1e-4, atol=1e-5)
  assert outcome["steps"] == [0] and not any(outcome["cost"].values())
  spent = 16 * forward_flops(model, 16)
  assert outcome["search_cost"] == {"updates": 0, "tokens": 16 * 16, "flops": spent}


def test_examples_change_a_score_and_the_lens_of_the_last_layer_does_not(finished):
  plain = finished.done("soft_prompt_max_ent")["scores"]["forget"][0][0]
  ((shown,),) = finished.done("few_shot_max_ent")["scores"]["forget"]
  ((read,),) = finished.done("logit_lens_max_ent")["scores"]["forget"]
  assert shown != plain
  np.testing.assert_allclose(read, plain, rtol=1e-4, atol=1e-5)


def test_prompts_are_counted_with_their_tokens(finished):
  tokens = {n: finished.done(f"{n}_max_ent")["cost"]["tokens"] for n in NAMES}
  assert tokens["logit_calibration"] == 8 * 16
  assert tokens["soft_prompt"] == 8 * (16 + 20)


def test_a_run_is_read_and_shown_and_no_member_is_exported(finished, tmp_path):
  directories = {name: path.name for name, path in finished.directories.items()}
  reading.write_plan(finished.workdir, {0: directories})
  page = report.page(reading.read(finished.workdir, declared()))
  assert "20 embeddings before every row are trained" in page
  assert "pushes on the output of layer 1 of every token" in page
  assert "is projected out of the residual stream, in every layer" in page
  named = re.search(r"Not counted as attacks: ([^.]*)\.", page)
  assert named is not None
  assert {*named[1].split(", ")} == {"linear probe of layer 1", "logit lens"}
  counted = robustness.counted(reading.read(finished.workdir, declared()))
  assert set(counted) == {*NAMES, "direction_ablation", "few_shot"} - {"probe_1"}
  directory = finished.directories["soft_prompt_max_ent"]
  with pytest.raises(ConfigError, match="an attack that ends in weights") as error:
    exporting.export(directory, tmp_path / "out", learning_rate=RATES[0])
  assert "\n" not in str(error.value)


def test_layers_of_weights_are_not_chosen_where_none_are_trained():
  config = minimal.config(attacks__soft_prompt__run=True)
  config.attacks.soft_prompt.trainable = (("embedding", ()),)
  expected = r"soft_prompt.trainable: expected \(\) where soft_prompt trains no weights"
  with pytest.raises(ConfigError, match=expected):
    checks.check(parse(config), dict(testing.mesh(1).shape))
