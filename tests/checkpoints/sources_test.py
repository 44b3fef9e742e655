"""Where models come from: found by name, opened, refused, told apart by content."""

import json
import shutil

import numpy as np
import pytest

from tests import minimal
from tests.chains import directory, model_of, stages_abstract
from undo_jax.checkpoints import exporting, sources
from undo_jax.models import huggingface
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import runs
from undo_jax.running.runs import run_single
from undo_jax.training.checkpointing import load_params
from undo_jax.utils.types import ConfigError


@pytest.mark.usefixtures("one_device")
def test_stages_run_from_hugging_face_files_as_from_ours(chain, tmp_path):
  root, _, _ = chain
  ours = directory(root / "unlearned", "max_ent")
  source = sources.open_source(ours, model_of())
  abstract = stages_abstract(source)
  huggingface.save(tmp_path / "hf", source.model, sources.load(source, abstract))
  generation = {"eos_token_id": [1, 5], "temperature": 0.7, "bos_token_id": 7}
  (tmp_path / "hf" / "generation_config.json").write_text(json.dumps(generation))
  # The converted model is made robust.
  student = "undo_alpha_0.5"

  def distilled(checkpoint, workdir):
    config = minimal.config()
    how = {"checkpoint": checkpoint, "models": [student]}
    return run_single("distill", config, workdir, **how)

  made = distilled(tmp_path / "hf", tmp_path / "a")
  assert set(made) == {"data", "max_ent", student}
  assert made == distilled(ours, tmp_path / "b")
  first, second = (
    load_params(directory(tmp_path / part, student) / "checkpoints", abstract)
    for part in "ab"
  )
  np.testing.assert_array_equal(first["embedding"], second["embedding"])
  # What it generates by goes on with it, with the ids of the tokenizer that made it.
  exporting.export(directory(tmp_path / "a", student), tmp_path / "out")
  written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
  assert written == generation | {"bos_token_id": 2}
  exporting.export(tmp_path / "hf", tmp_path / "same")
  written = json.loads((tmp_path / "same" / "generation_config.json").read_text())
  assert written == generation


def test_a_part_is_all_that_starts_from_the_checkpoint(chain):
  root, _, _ = chain
  ours = directory(root / "unlearned", "max_ent")
  _, _, plans = runs.plan_single("distill", minimal.config(), checkpoint=ours)
  names = {stage.name for stage in plans[0]}
  assert names == {"data", "max_ent", "unlearn_and_distill", "undo_alpha_0.5"}


def test_another_checkpoint_is_another_identity(chain, tmp_path):
  _, base, _ = chain
  moved = shutil.copytree(base, tmp_path / "moved")
  how = model_of()
  fingerprint = sources.open_source(base, how).fingerprint
  assert sources.open_source(moved, how).fingerprint == fingerprint
  files = [p for p in (moved / "checkpoints").rglob("*") if p.is_file()]
  file = max(files, key=lambda p: p.stat().st_size)
  file.write_bytes(file.read_bytes() + b" ")
  other = sources.open_source(moved, how).fingerprint
  assert other != fingerprint
  config = parse(runs.put_checkpoint(minimal.config(), "relearn", "somewhere"))
  first, second = (
    stages.identities(translation.plan(config, 0, {"model": each}))
    for each in (fingerprint, other)
  )
  assert first["data"] == second["data"]
  assert first["relearn_model"] != second["relearn_model"]


@pytest.mark.usefixtures("one_device")
def test_a_given_model_that_has_changed_since_is_refused(chain, tmp_path):
  _, base, _ = chain
  moved = shutil.copytree(base, tmp_path / "moved")
  run_single("evaluate", minimal.config(), tmp_path / "run", checkpoint=moved)
  given = directory(tmp_path / "run", "model")
  assert sources.open_source(given).path == moved
  config = moved / "config.json"
  config.write_text(config.read_text() + "\n")
  with pytest.raises(ConfigError, match="its content has changed"):
    sources.open_source(given)


def test_the_run_decides_how_a_given_model_is_computed(chain):
  _, base, _ = chain
  source = sources.open_source(base, model_of(model__remat="full"))
  assert (source.model.remat, source.model.width) == ("full", 16)


def test_a_stage_is_found_by_its_name(chain, tmp_path):
  _, base, _ = chain
  assert sources.find(base.parent / "base") == base
  assert sources.find(base) == base
  shutil.copytree(base, tmp_path / "base-0123456789ab")
  shutil.copytree(base, tmp_path / "base-0123456789ac")
  with pytest.raises(ConfigError, match="any of base-0123456789ab, base-0123456789ac"):
    sources.find(tmp_path / "base")


def test_what_is_no_model_is_refused(chain, tmp_path):
  _, base, _ = chain
  how = model_of()
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
