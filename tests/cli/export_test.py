"""The command as a user runs it: a model of Hugging Face's files in another dtype."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from undo_jax.models import huggingface

pytestmark = pytest.mark.processes

ROOT = pathlib.Path(experiments.__file__).parents[1]
MODEL = ROOT / "tests" / "models" / "references" / "gemma2_window"


def export(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "experiments.export", *arguments],
    cwd=ROOT,
    env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
    capture_output=True,
    text=True,
  )


def test_weights_are_written_in_the_dtype_that_is_asked_for(tmp_path):
  done = export(f"--checkpoint={MODEL}", f"--output={tmp_path}/out", "--dtype=bfloat16")
  assert done.returncode == 0, done.stderr
  config, params = huggingface.load(tmp_path / "out")
  expected, whole = huggingface.load(MODEL)
  assert config == expected
  for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True):
    np.testing.assert_array_equal(got, want.astype(jnp.bfloat16))
  assert "its stages are not known" in (tmp_path / "out" / "README.md").read_text()


def test_adapters_of_what_is_no_attack_are_refused_in_one_line(tmp_path):
  done = export(f"--checkpoint={MODEL}", f"--output={tmp_path}/out", "--peft")
  assert done.returncode == 2 and done.stderr.startswith("error: ")
  assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
