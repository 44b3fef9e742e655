"""Compiled programs on disk: read by the next process, and written by nobody else."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from undo_jax.utils import compilation_cache

# Compiles a program of a second or so, and tells how often one was read.
PROGRAM = """
import json
import jax, numpy as np
from undo_jax.utils import compilation_cache
compilation_cache._MIN_SECONDS = 0.0  # However fast this machine compiles.
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
path = compilation_cache.use()
def program(x):
  for i in range(40):
    x = jax.numpy.sort(x @ x.T + i, axis=0) / 7.0
  return x
x = np.linspace(0.0, 1.0, 64, dtype=np.float32).reshape(8, 8)
result = jax.jit(program)(x).tolist()
read = hits.count("/jax/compilation_cache/cache_hits")
print(json.dumps([str(path), read, result]))
"""


def run(home, **environment):
  inherited = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMP")}
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env=inherited | {"XDG_CACHE_HOME": str(home)} | environment,
    capture_output=True,
    text=True,
    check=True,
  )
  assert "cache" not in done.stderr, done.stderr  # No warning of JAX's.
  return json.loads(done.stdout)


@pytest.fixture
def undecided(monkeypatch, tmp_path):
  """This process as one whose cache is undecided; its settings come back after."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  names = ("cache_dir", "cache_max_size")
  names = [f"jax_compilation_{x}" for x in names]
  names += ["jax_persistent_cache_min_compile_time_secs"]
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update("jax_compilation_cache_dir", None)
  yield tmp_path
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.mark.processes
def test_second_process_reads_and_computes_the_same(tmp_path):
  path, read, result = run(tmp_path)
  assert read == 0
  assert pathlib.Path(path).stat().st_mode & 0o777 == 0o700
  kept = [*pathlib.Path(path).glob("*program*-cache")]
  assert len(kept) == 1
  assert run(tmp_path) == [path, 1, result]

  # Half of a program, of a process that was killed: compiled and written again.
  kept[0].write_bytes(kept[0].read_bytes()[:1000])
  kept[0].with_name(kept[0].name.replace("-cache", "-atime")).unlink()
  assert run(tmp_path) == [path, 0, result]
  assert run(tmp_path) == [path, 1, result]
  assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == ["None", 0, result]


def test_directory_is_ours_alone(undecided):
  path = compilation_cache.use()
  assert path is not None and jax.config.jax_compilation_cache_dir == str(path)
  jax.config.update("jax_compilation_cache_dir", None)
  path.chmod(0o770)  # Others could put a program there.
  assert compilation_cache.use() is None
  assert jax.config.jax_compilation_cache_dir is None


def test_what_the_user_chose_stays(undecided, tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "chosen"))
  assert compilation_cache.use() is None
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "chosen")


def test_home_that_cannot_be_written(undecided, monkeypatch):
  file = undecided / "file"
  file.write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(file))
  assert compilation_cache.use() is None


def test_unfinished_programs_alone_are_removed(tmp_path):
  for name in ("whole-cache", "whole-atime", "half-cache"):
    (tmp_path / name).write_bytes(np.int64(7).tobytes())
  compilation_cache._remove_unfinished(tmp_path)
  assert {x.name for x in tmp_path.iterdir()} - {".lockfile"} == {
    "whole-cache",
    "whole-atime",
  }
