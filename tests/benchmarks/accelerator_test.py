"""The script for an accelerator, whole, at toy sizes on a CPU."""

import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks import accelerator_common, accelerator_jax, accelerator_parts, common


def environment():
  """One device; the parts compile some programs alike."""
  return os.environ | {
    "JAX_NUM_CPU_DEVICES": "1",
    "JAX_COMPILATION_CACHE_DIR": os.environ["TESTS_COMPILED"],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }


def run(directory, *how):
  return subprocess.run(
    [sys.executable, "-m", "benchmarks.accelerator", f"--output={directory}", *how],
    cwd=common.ROOT,
    env=environment(),
    capture_output=True,
    text=True,
  )


@pytest.mark.processes
def test_all_parts_at_toy_sizes(tmp_path):
  tests = "--tests=tests/benchmarks/sizes_test.py,tests/none_test.py"
  done = run(tmp_path, "--sizes=toy", "--seconds=0.01", tests)
  assert done.returncode == 0, done.stderr
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["device"]["platform"] == "cpu"
  rows = {(row["what"], row.get("side")): row for row in results["rows"]}
  ours = ("pretraining", "distillation", "attack", "generation")
  for what in (*ours, "small, 1 a dispatch", "small, 16 a dispatch"):
    row = rows[what, "undo_jax"]
    assert all(0 < x < math.inf for x in row["speeds"]), row
  for what in ours[:3]:
    assert 0 < rows[what, "undo_jax"]["share"] < 1
    assert rows[what, "undo_jax"]["memory_bytes"] > 0
  # What fails is told, and ends nothing.
  assert "none_test.py" in rows["tests", None]["note"]
  theirs = rows["distillation", "torch.compile"]
  if common.version("torch") is None or common.version("transformers") is None:
    assert theirs["note"].startswith("not installed: ")
  else:
    assert all(0 < x < math.inf for x in theirs["speeds"]), theirs
  table = (tmp_path / "results.md").read_text()
  assert table in done.stdout
  assert all(f"| {what} " in table for what, _ in rows)


MADE_UP = """
import os, time

def slow(size, setting, report):
  report({"what": "before"})
  time.sleep(60)

def broken(size, setting, report):
  report({"what": "before"})
  raise ValueError("two\\nlines")

def gone(size, setting, report):
  os._exit(3)
"""


@pytest.mark.processes
@pytest.mark.parametrize(
  ("kind", "notes"),
  [
    ("slow", [None, "stopped after 1 s, which was its time"]),
    ("broken", [None, "ValueError: two lines"]),
    ("gone", ["its process ended with status 3; see log.txt"]),
  ],
)
def test_how_a_part_ends_is_told(tmp_path, monkeypatch, kind, notes):
  (tmp_path / "made_up_parts.py").write_text(MADE_UP)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(accelerator_parts.MODULES, kind, "made_up_parts")
  setting = accelerator_common.Setting(seconds=0.0, tests=())
  rows = accelerator_parts.measure(accelerator_parts.Part(kind), setting, tmp_path, 1.0)
  assert [row.get("note") for row in rows] == notes


def test_what_does_not_fit_is_tried_with_less(monkeypatch):
  tried = []

  def refuse(model, objective, rows, length):
    tried.append((model.remat, rows))
    raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

  monkeypatch.setattr(accelerator_jax, "_Trained", refuse)
  shape = accelerator_common.SIZES["toy"]
  setting = accelerator_common.Setting(seconds=0.0, tests=())
  row = accelerator_jax._first_that_fits(
    "pretraining", "toy", shape, "cross_entropy", setting
  )
  assert tuple(tried) == shape.attempts
  assert row["note"].startswith("out of memory: 4 rows with none did not fit; 2 rows")
