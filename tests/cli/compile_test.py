"""The compile command on a tiny config."""

import importlib.util
import subprocess
import sys

import pytest

from tests import children

CONFIG = "--config=configs/pods.py:tiny"


@pytest.mark.processes
def test_a_wrong_topology_is_one_line():
  status, _, said = children.run("compile", CONFIG, "--topology=v9:2x2")
  assert status == 2
  assert said.strip().splitlines()[-1].startswith("error: --topology: expected")


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="the TPU compiler is not installed: pip install 'undo-jax[tpu-compile]'",
)
@pytest.mark.processes
@pytest.mark.parametrize(("rows", "status"), [(16, 0), (800_000, 1)])
def test_a_stage_is_compiled_for_a_slice_and_the_status_says_whether_it_fits(
  rows, status
):
  done = subprocess.run(
    (
      *(sys.executable, "-m", "experiments.compile", CONFIG),
      *("--topology=v5e:2x2", "--stages=base"),
      f"--config.models.base.batch_size={rows}",
    ),
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == status, done.stderr
  line = next(x for x in done.stdout.splitlines() if x.startswith("base, data"))
  assert ("yes" in line.split()) == (status == 0)
