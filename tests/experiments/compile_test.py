"""The compile command on a tiny config."""

import importlib.util
import subprocess
import sys

import jax
import pytest

from undo_jax import config as builders
from undo_jax import testing
from undo_jax.estimation import programs
from undo_jax.plan import checks, translation
from undo_jax.plan.config import parse
from undo_jax.running import programs as real_programs
from undo_jax.utils.types import ConfigError

COMMAND = (sys.executable, "-m", "experiments.compile", "--config=configs/pods.py:tiny")


def run(*flags):
  return subprocess.run((*COMMAND, *flags), capture_output=True, text=True, check=False)


def test_every_stage_of_a_plan_has_one_program_with_the_shapes_it_is_called_with():
  config = builders.shipped("arithmetic:tiny")
  config.data.num_equations = 40
  config.data.num_evaluation = 4
  declared = parse(config)
  found = list(programs.of_run(declared, testing.mesh(8, data=2, fsdp=4)))
  names = [name for lowered in found for name in lowered.names]
  plan = [stage.name for stage in translation.plan(declared, 0) if stage.name != "data"]
  assert sorted(names) == sorted([*plan, "evaluation"])
  by_name = {name: lowered for lowered in found for name in lowered.names}
  assert by_name["base"] is by_name["data_filtering"]
  assert by_name["undo_alpha_0.3"] is by_name["unlearn_and_distill"]
  state, frozen, batch, _ = by_name["undo_alpha_0.3"].args
  assert batch["inputs"].shape == (128, 16) and set(frozen) == {"teacher"}
  # The shapes go through the real programs: nothing is missing or in excess.
  for lowered in found:
    out = jax.eval_shape(lowered.program, *lowered.args)
    if "base" in lowered.names:
      assert out[1].keys() == {"cross_entropy", "loss", "gradient_norm"}
    if "evaluation" in lowered.names:
      assert {"retain", "forget"} < out.keys()
    if "relearn_base" in lowered.names:
      assert out[1]["forget"].shape == (10, 5)  # Evaluations, learning rates.


def test_a_frozen_model_is_held_in_the_compute_dtype_and_reads_the_same():
  mesh = testing.mesh(1)
  model = testing.config(dtype="bfloat16")
  params = real_programs.initialize(model, mesh)(jax.random.key(0))
  frozen = real_programs.freeze(model, mesh)(params)
  dtypes = jax.tree.map(lambda x: x.dtype.name, frozen)
  assert dtypes["embedding"] == dtypes["layers"]["mlp"]["up"]["kernel"] == "bfloat16"
  assert dtypes["final_norm"]["scale"] == "float32"
  abstract = real_programs.abstract_frozen(model, mesh)
  assert jax.tree.map(lambda x: x.dtype.name, abstract) == dtypes


def test_pods_says_how_its_mesh_divides_its_batches():
  small = {f"gemma2_{size}b": 1 for size in ("0.1", "0.3", "0.6", "0.9")}
  chips = small | {"gemma2_2b": 1, "gemma2_2b_pod": 16, "tiny": 2}
  for size, data in chips.items():
    config = parse(builders.shipped(f"pods:{size}"))
    mesh = {"replica": 1, "data": data, "fsdp": config.mesh["fsdp"], "tensor": 1}
    checks.check(config, mesh)
    with pytest.raises(ConfigError, match="a multiple of"):
      checks.check(config, mesh | {"data": 3})


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
