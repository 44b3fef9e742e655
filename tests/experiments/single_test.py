"""Single stages: alone, from a stage of ours and from Hugging Face's files."""

import json
import shutil

import numpy as np
import pytest

from configs import arithmetic
from experiments.single import run_single
from tests.experiments.undo_test import MINIMAL
from undo_jax import sources, stages
from undo_jax.models import huggingface
from undo_jax.training.checkpointing import load_params
from undo_jax.types import ConfigError


def minimal(**changes):
  config = arithmetic.get_config("tiny")
  config.update_from_flattened_dict(MINIMAL | changes)
  return config


def directory(workdir, name):
  (found,) = (workdir / "stages").glob(f"{name}-*")
  return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
  """base in one workdir; unlearned from its directory in another."""
  root = tmp_path_factory.mktemp("chain")
  run_single("pretrain", minimal(), root / "base", models=["base"])
  base = directory(root / "base", "base")
  outcomes = run_single(
    "unlearn", minimal(), root / "unlearned", checkpoint=base, models=["max_ent"]
  )
  return root, base, outcomes


def test_a_stage_alone_is_a_part_of_the_whole_run(chain):
  root, base, _ = chain
  assert sorted(p.name.rsplit("-")[0] for p in (root / "base/stages").iterdir()) == [
    "base",
    "data",
  ]
  plan = stages.plan(minimal())
  assert base.name == f"base-{stages.identities(plan)['base']}"


def test_a_given_model_is_scored_and_goes_on_as_the_trained_one(chain):
  root, base, outcomes = chain
  # The same weights have the same scores ...
  trained = json.loads((base / "done.json").read_text())
  assert outcomes["base"]["scores"] == trained["scores"]
  assert outcomes["base"]["compute"] == {"updates": 0, "tokens": 0, "flops": 0}
  # ... and unlearn to the same model as within one run.
  within = run_single("unlearn", minimal(), root / "base", models=["max_ent"])
  assert within["max_ent"] == outcomes["max_ent"]


def test_stages_run_from_hugging_face_files_as_from_ours(chain, tmp_path):
  root, _, _ = chain
  ours = directory(root / "unlearned", "max_ent")
  source = sources.open_source(ours, minimal().model)
  abstract = stages_abstract(source)
  huggingface.save(tmp_path / "hf", source.model, sources.load(source, abstract))
  # The converted model is made robust and attacked.
  made = run_single("distill", minimal(), tmp_path / "a", checkpoint=tmp_path / "hf")
  same = run_single("distill", minimal(), tmp_path / "b", checkpoint=ours)
  assert set(made) == {"data", "max_ent", "unlearn_and_distill", "undo_alpha_0.5"}
  assert made == same
  for name in ("unlearn_and_distill", "undo_alpha_0.5"):
    first, second = (
      load_params(directory(tmp_path / part, name) / "checkpoints", abstract)
      for part in "ab"
    )
    np.testing.assert_array_equal(first["embedding"], second["embedding"])
  attacked = run_single(
    "relearn", minimal(), tmp_path / "c", checkpoint=tmp_path / "hf"
  )
  assert list(attacked) == ["data", "model", "attack_model"]
  before = [row[0] for row in attacked["attack_model"]["scores"]["forget"]]
  assert before == [attacked["model"]["scores"]["forget"]] * 2


def stages_abstract(source):
  from undo_jax import programs, testing

  return programs.abstract_params(source.model, testing.mesh(1))


def test_pretraining_goes_on_from_a_checkpoint(chain, tmp_path):
  _, base, _ = chain
  first = run_single(
    "pretrain", minimal(), tmp_path, checkpoint=base, models=["data_filtering"]
  )
  assert list(first) == ["data", "model", "data_filtering"]
  # Nothing is left to do the second time.
  again = run_single(
    "pretrain", minimal(), tmp_path, checkpoint=base, models=["data_filtering"]
  )
  assert again == first


def test_another_checkpoint_is_another_identity(chain, tmp_path):
  _, base, _ = chain
  moved = shutil.copytree(base, tmp_path / "moved")
  how = minimal().model
  fingerprint = sources.open_source(base, how).fingerprint
  assert sources.open_source(moved, how).fingerprint == fingerprint
  files = [p for p in (moved / "checkpoints").rglob("*") if p.is_file()]
  file = max(files, key=lambda p: p.stat().st_size)
  file.write_bytes(file.read_bytes() + b" ")
  other = sources.open_source(moved, how).fingerprint
  assert other != fingerprint
  plans = [stages.single(minimal(), "relearn", f) for f in (fingerprint, other)]
  first, second = (stages.identities(plan) for plan in plans)
  assert first["data"] == second["data"]
  assert first["attack_model"] != second["attack_model"]


def test_the_run_decides_how_a_given_model_is_computed(chain):
  _, base, _ = chain
  source = sources.open_source(base, minimal(**{"model.remat": "full"}).model)
  assert (source.model.remat, source.model.width) == ("full", 16)


def test_what_is_no_model_is_refused(chain, tmp_path):
  _, base, _ = chain
  how = minimal().model
  with pytest.raises(ConfigError, match="--checkpoint must be a directory"):
    sources.open_source(tmp_path / "nothing", how)
  with pytest.raises(ConfigError, match=r"no checkpoint directory.*no config\.json"):
    sources.open_source(tmp_path, how)
  (data,) = base.parent.glob("data-*")
  with pytest.raises(ConfigError, match="kind 'data', which holds no single model"):
    sources.open_source(data, how)
  unfinished = shutil.copytree(base, tmp_path / "unfinished")
  (unfinished / "done.json").unlink()
  with pytest.raises(ConfigError, match="is not finished"):
    sources.open_source(unfinished, how)


def test_wrong_requests_are_one_clear_line(chain, tmp_path):
  _, base, _ = chain
  with pytest.raises(ConfigError, match="nothing to evaluate: give --checkpoint"):
    run_single("evaluate", minimal(), tmp_path)
  with pytest.raises(ConfigError, match="'nothing' is none of data, base"):
    run_single("pretrain", minimal(), tmp_path, models=["nothing"])
  changes = {"data.tokenizer": "bytes"}
  with pytest.raises(ConfigError, match="vocab_size: expected at least 259"):
    run_single("evaluate", minimal(**changes), tmp_path, checkpoint=base)
  assert list(tmp_path.iterdir()) == []
