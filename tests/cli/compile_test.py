"""The compile command on a tiny config."""

import importlib.util
import subprocess
import sys

import pytest

COMMAND = (sys.executable, "-m", "experiments.compile", "--config=configs/pods.py:tiny")


def run(*flags):
  return subprocess.run((*COMMAND, *flags), capture_output=True, text=True, check=False)


@pytest.mark.processes
def test_a_wrong_topology_is_one_line():
  done = run("--topology=v9:2x2")
  assert done.returncode == 2
  assert done.stderr.strip().splitlines()[-1].startswith("error: --topology: expected")


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="the TPU compiler is not installed: pip install 'undo-jax[tpu-compile]'",
)
@pytest.mark.processes
@pytest.mark.parametrize(("rows", "status"), [(16, 0), (800_000, 1)])
def test_a_stage_is_compiled_for_a_slice_and_the_status_says_whether_it_fits(
  rows, status
):
  done = run(
    "--topology=v5e:2x2", "--stages=base", f"--config.models.base.batch_size={rows}"
  )
  assert done.returncode == status, done.stderr
  line = next(x for x in done.stdout.splitlines() if x.startswith("base, data"))
  assert ("yes" in line.split()) == (status == 0)
