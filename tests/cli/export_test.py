"""The command as a user runs it: a model of Hugging Face's files in another dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import children
from undo_jax.models import huggingface

pytestmark = pytest.mark.processes

MODEL = children.ROOT / "tests" / "models" / "references" / "gemma2_window"


def test_weights_are_written_in_the_dtype_that_is_asked_for(tmp_path):
  flags = (f"--checkpoint={MODEL}", f"--output={tmp_path}/out", "--dtype=bfloat16")
  status, _, said = children.run("export", *flags)
  assert status == 0, said
  config, params = huggingface.load(tmp_path / "out")
  expected, whole = huggingface.load(MODEL)
  assert config == expected
  for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True):
    np.testing.assert_array_equal(got, want.astype(jnp.bfloat16))
  assert "its stages are not known" in (tmp_path / "out" / "README.md").read_text()


def test_adapters_of_what_is_no_attack_are_refused_in_one_line(tmp_path):
  flags = (f"--checkpoint={MODEL}", f"--output={tmp_path}/out", "--peft")
  status, _, said = children.run("export", *flags)
  assert status == 2 and said.startswith("error: ")
  assert len(said.splitlines()) == 1 and not list(tmp_path.iterdir())
