"""A run directory belongs to one config."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
from ml_collections import config_dict
import numpy as np
import pytest

from undo_jax.training.checkpointing import Checkpoints, load_params
from undo_jax.utils import workdirs
from undo_jax.utils.types import ConfigError

CONFIG = {"rate": 0.1, "model": {"width": 16, "layers": 2}, "label": "a"}


def claim(workdir, config, **options):
  workdirs.claim(workdir, config, free=("label",), **options)


def test_the_first_claim_makes_the_directory_and_any_form_of_the_config_resumes(
  tmp_path,
):
  workdir = tmp_path / "runs" / "one"
  claim(workdir, CONFIG)
  assert json.loads((workdir / "config.json").read_text()) == CONFIG
  written = (workdir / "config.json").stat().st_mtime_ns
  claim(workdir, config_dict.ConfigDict(CONFIG))
  assert (workdir / "config.json").stat().st_mtime_ns == written


def test_another_config_is_refused_by_all_fields_that_differ(tmp_path):
  claim(tmp_path, CONFIG)
  other = {"rate": 0.1, "model": {"width": 32}, "label": "b", "steps": 3}
  with pytest.raises(ConfigError) as error:
    claim(tmp_path, other)
  message = str(error.value)
  assert "config.model.width (16 there, 32 here)" in message
  assert "config.model.layers (2 there, 'nothing' here)" in message
  assert "config.steps ('nothing' there, 3 here)" in message
  assert "rate" not in message and "label" not in message
  assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_what_is_free_may_change_and_is_written(tmp_path):
  claim(tmp_path, CONFIG)
  claim(tmp_path, CONFIG | {"label": "b"})
  assert json.loads((tmp_path / "config.json").read_text())["label"] == "b"


def test_only_what_is_effective_in_both_must_be_equal(tmp_path):
  def shared(config, other):
    return {name: value for name, value in config.items() if name in other}

  claim(tmp_path, CONFIG)
  claim(tmp_path, CONFIG | {"added": 1}, effective=shared)
  with pytest.raises(ConfigError, match=r"config.added \(1 there, 2 here\)"):
    claim(tmp_path, CONFIG | {"added": 2}, effective=shared)


def test_a_file_is_no_directory_to_claim(tmp_path):
  (tmp_path / "file").write_text("")
  for path in (tmp_path / "file", tmp_path / "file" / "below"):
    with pytest.raises(ConfigError, match="must be a directory that can be written"):
      claim(path, CONFIG)


def test_a_directory_is_used_by_one_run_at_a_time(tmp_path):
  workdir = tmp_path / "runs" / "one"
  hold, other = workdirs.Hold(workdir), workdirs.Hold(workdir)
  hold.take()
  with pytest.raises(ConfigError, match=f"in use by process {os.getpid()} of .* since"):
    other.take()
  hold.close()
  other.take()
  other.close()


def test_a_killed_run_lets_go_of_its_directory(tmp_path):
  code = (
    "import pathlib, sys\n"
    "from undo_jax.utils import workdirs\n"
    "hold = workdirs.Hold(pathlib.Path(sys.argv[1]))\n"
    "hold.take()\n"
    "print('taken', flush=True)\n"
    "sys.stdin.read()\n"  # Until it is killed, or the test has failed.
  )
  command = [sys.executable, "-c", code, str(tmp_path)]
  pipe = subprocess.PIPE
  with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
    process.stdout.readline()
    with pytest.raises(ConfigError, match=f"in use by process {process.pid} of "):
      workdirs.Hold(tmp_path).take()
    process.kill()
  workdirs.Hold(tmp_path).take()


@pytest.mark.parametrize("name", ["lr[1e-3]", "a]", "a*", "what?", "a\\b"])
def test_a_name_that_is_a_glob_is_refused(tmp_path, monkeypatch, name):
  """Orbax writes checkpoints there that it does not find again."""
  with pytest.raises(ConfigError, match=r"a path without any of \* \? \[ \] \\, got "):
    claim(tmp_path / name / "run", CONFIG)
  assert not (tmp_path / name).exists()
  (tmp_path / name).mkdir()
  monkeypatch.chdir(tmp_path / name)
  with pytest.raises(ConfigError, match="got /"):
    claim(pathlib.Path("run"), CONFIG)


@pytest.mark.parametrize("name", ["a{b}%20#&=+@!~^$`'\";:,<>|() \té", "-x"])
def test_other_names_hold_checkpoints_that_are_found_again(tmp_path, name):
  workdir = tmp_path / name
  claim(workdir, CONFIG)
  checkpoints = Checkpoints(workdir / "checkpoints")
  params = {"w": jnp.arange(4.0)}
  checkpoints.save(1, params, {"s": jnp.arange(2)})
  checkpoints.close()
  restored = load_params(workdir / "checkpoints", jax.eval_shape(lambda: params))
  np.testing.assert_array_equal(restored["w"], params["w"])
