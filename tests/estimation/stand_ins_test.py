"""A run is compiled where the files that it names are not."""

import jax
import pytest

from configs import arithmetic, language, wmdp
from tests import tofu_files
from undo_jax import config as builders
from undo_jax import tasks, testing
from undo_jax.estimation import programs, stand_ins
from undo_jax.plan import checks, translation
from undo_jax.plan.config import parse
from undo_jax.plan.stages import TrainStage

ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}
SEEDS = {"data": 0, "eval": 0}


def corpora(*names):
  return {f"data.{name}.paths" for name in names}


@pytest.mark.parametrize(
  ("module", "size", "missing"),
  [
    (arithmetic, "paper", {"data.tokenizer", *corpora("english")}),
    (language, "paper", {"data.tokenizer", *corpora("retain", "forget")}),
    (
      wmdp,
      "gemma2_2b_cyber",
      {
        "data.tokenizer",
        *(f"data.questions.{name}" for name in ("wmdp", "mmlu", "mmlu_examples")),
        *corpora("forget", "retain", "forget_qa", "retain_qa", "wikitext"),
        *corpora(*wmdp.DISTILLED),
      },
    ),
  ],
)
def test_the_papers_configs_pass_every_check_without_their_files(
  module, size, missing, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  config = module.get_config(size)
  assert set(stand_ins.fill(config, tmp_path)) == missing
  declared = parse(config)
  checks.check(declared, ONE_DEVICE)
  plan = translation.plan(declared, 0)
  trained = next(stage for stage in plan if isinstance(stage, TrainStage))
  lowered = programs.of_stage(trained, testing.mesh(1))
  shapes = jax.tree.leaves(lowered.args[2])
  assert {x.shape for x in shapes} == {
    (trained.rows[part], trained.length) for part in trained.rows
  }
  assert not stand_ins.fill(config, tmp_path)


def test_files_of_tofu_are_made_up_as_large_as_the_real_ones(tmp_path):
  data = tofu_files.data(tmp_path / "none", sequence_length=128)
  data.update_from_flattened_dict({"num_forget_authors": 20})
  data.num_retain_authors = 180
  config = builders.block(data=data)
  assert stand_ins.fill(config, tmp_path) == ["data.directory"]
  task = tasks.get("tofu")
  task.check(data)
  names, arrays = task.problems(data.to_dict(), SEEDS, tmp_path)
  assert len(names) == 7
  # 60 % of 400 forgotten, 400 kept and 217 others; those attacked are scored too.
  assert (arrays["set"] >= 0).sum() == 400 + 400 + 217
  assert stand_ins.fill(config, tmp_path) == []


def test_files_that_are_there_are_kept(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = language.get_config("tiny")
  for name in ("retain", "forget"):
    path = tmp_path / f"{name}.jsonl"
    path.write_text('{"text": "words"}\n')
    config.data[name].paths = (str(path),)
  config.data.tokenizer = "bytes"
  before = config.to_json()
  assert stand_ins.fill(config, tmp_path) == []
  assert config.to_json() == before


def test_made_up_questions_are_about_as_many_and_as_long_as_the_real_ones(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  config = wmdp.get_config("gemma2_2b_cyber")
  config.data.questions.mmlu_limit = 2.0
  config.data.questions.wmdp_limit = None
  stand_ins.fill(config, tmp_path)
  problems = tasks.get("wmdp").problems
  names, arrays = problems(config.data.to_dict(), SEEDS, tmp_path)
  assert len(names) == 58
  shapes = [rows["inputs"].shape for rows in arrays["rows"].values()]
  assert sum(rows for rows, _ in shapes) >= 57 * 2 + 1987
  assert 1500 < max(length for _, length in shapes) < 3000
