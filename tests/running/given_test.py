"""Models that came from a checkpoint."""

import shutil

import pytest

from tests import minimal
from undo_jax.running.runs import run_single
from undo_jax.utils import files


@pytest.mark.usefixtures("one_device")
def test_a_given_model_is_scored_and_goes_on_as_the_trained_one(chain, tmp_path):
  root, base, outcomes = chain
  shutil.copytree(root / "base", tmp_path / "base")
  # The same weights have the same scores ...
  trained = files.read_record(base / "done.json")
  assert outcomes["base"]["scores"] == trained["scores"]
  assert outcomes["base"]["compute"] == {"updates": 0, "tokens": 0, "flops": 0}
  # ... which evaluate only reads in the run that trained them ...
  read = run_single("evaluate", minimal.config(), tmp_path / "base", models=["base"])
  assert read["base"] == trained
  # ... and unlearn to the same model as within one run.
  within = run_single(
    "unlearn", minimal.config(), tmp_path / "base", models=["max_ent"]
  )
  assert within["max_ent"] == outcomes["max_ent"]
