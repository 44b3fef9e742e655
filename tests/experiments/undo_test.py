"""The whole pipeline at a minimal size: results, kill and resume, bad input."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import arithmetic
from undo_jax import stages
from undo_jax.frontier import results as results_lib
from undo_jax.models import lora
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.training.checkpointing import load_params

ROOT = pathlib.Path(results_lib.__file__).parents[2]
MINIMAL = {
  "checkpoint_every": 2,
  "data.num_equations": 64,
  "data.num_evaluation": 2,
  "model.num_layers": 2,
  "model.width": 16,
  "model.mlp_width": 32,
  "model.head_dim": 8,
  "model.scan_unroll": 1,
  "pretrain.num_steps": 3,
  "pretrain.warmup_steps": 1,
  "pretrain.batch_size": 16,
  "unlearn.max_ent.num_steps": 2,
  "unlearn.max_ent.batch_size": 16,
  "unlearn.grad_diff.num_steps": 2,
  "unlearn.grad_diff.batch_size": 16,
  "unlearn.rmu.num_steps": 2,
  "unlearn.rmu.batch_size": 16,
  "undo.alphas": (0.5,),
  "distill.num_steps": 5,
  "distill.warmup_steps": 1,
  "distill.batch_size": 16,
  "distill.stop.evaluate_every": 2,
  "distill.stop.tolerance": 0.0,  # Nothing recovers: every step is run.
  "oracle.num_steps": 5,
  "oracle.warmup_steps": 1,
  "oracle.batch_size": 16,
  "attack.learning_rates": (1e-3, 1e-2),
  "attack.num_steps": 4,
  "attack.evaluate_every": 2,
  "attack.evaluations_per_call": 1,
  "attack.batch_size": 8,
}
MODELS = [
  "base",
  "data_filtering",
  "max_ent",
  "grad_diff",
  "rmu",
  "oracle_matching",
  "unlearn_and_distill",
  "undo_alpha_0.5",
]


def minimal(**changes):
  config = arithmetic.get_config("tiny")
  config.update_from_flattened_dict(MINIMAL | changes)
  return config


def command(workdir, **changes):
  values = MINIMAL | changes
  overrides = [f"--config.{name}={value}" for name, value in values.items()]
  config = f"--config={ROOT / 'configs' / 'arithmetic.py'}:tiny"
  module = [sys.executable, "-m", "experiments.undo"]
  return [*module, config, f"--workdir={workdir}", *overrides]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
  """One device, where tests otherwise see eight; programs compiled once."""
  return os.environ | {
    "XLA_FLAGS": "",
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, environment):
  workdir = tmp_path_factory.mktemp("finished")
  done = subprocess.run(
    command(workdir), cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return workdir, done


def test_results_follow_the_schema(finished):
  workdir, _ = finished
  found = json.loads((workdir / "results.json").read_text())
  assert (found["schema"], found["setting"], found["seed"]) == (1, "arithmetic", 0)
  assert list(found["models"]) == MODELS
  for name, model in found["models"].items():
    relearn = model["relearn"]
    assert relearn["steps"] == [0, 2, 4]
    assert relearn["attack"] == {"kind": "full"}
    assert relearn["worst_forget"][0] == model["before"]["forget"]
    by_rate = relearn["forget_by_learning_rate"]
    assert relearn["worst_forget"] == [
      max(column) for column in zip(*by_rate, strict=True)
    ]
    columns = zip(*by_rate, strict=True)
    for worst, column in zip(relearn["worst_learning_rate"], columns, strict=True):
      assert column[relearn["learning_rates"].index(worst)] == max(column)
    if name == "base":
      assert model["compute"]["flops"] == 0
    else:
      assert model["compute"]["flops"] > 0
  assert found["models"]["data_filtering"]["compute"]["fraction_of_data_filtering"] == 1


def test_compute_adds_the_teacher_and_its_passes(finished):
  models = json.loads((finished[0] / "results.json").read_text())["models"]
  flops = {name: model["compute"]["flops"] for name, model in models.items()}
  # In passes over rows, times rows: training costs 3, a teacher pass 1.
  pretraining, unlearning, distilling = 3 * 3 * 16, 2 * 6 * 16, 5 * 4 * 16
  unit = flops["data_filtering"] / pretraining
  assert flops["max_ent"] == flops["grad_diff"] == unlearning * unit
  assert flops["rmu"] == 2 * 7 * 16 * unit
  assert flops["undo_alpha_0.5"] == (unlearning + distilling) * unit
  assert flops["unlearn_and_distill"] == flops["undo_alpha_0.5"]
  assert flops["oracle_matching"] == (pretraining + distilling) * unit


def test_every_file_of_a_run_is_there(finished):
  workdir, done = finished
  for name in ("config.json", "command.txt", "environment.json", "report.html"):
    assert (workdir / name).stat().st_size > 0
  assert len(list((workdir / "figures").glob("*.png"))) == 4
  for stage in (workdir / "stages").iterdir():
    assert (stage / "done.json").exists() and (stage / "config.json").exists()
  assert "undo_alpha_0.5" in done.stdout
  assert not list(workdir.rglob("*.pkl"))


def test_a_finished_run_does_nothing_and_says_so(finished, environment):
  workdir, _ = finished
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
  again = subprocess.run(
    command(workdir), cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert again.returncode == 0
  assert "nothing to do" in again.stderr
  after = {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}
  assert after == before


def test_a_run_killed_again_and_again_gives_the_same_results(
  finished, environment, tmp_path
):
  kills = 3
  expected = (finished[0] / "results.json").read_bytes()
  whole = len(stages.plan(minimal()))
  for kill in range(1, kills + 1):
    process = subprocess.Popen(
      command(tmp_path), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    # Killed when it is a share of the stages further, at whatever it then does.
    target = kill * whole // (kills + 1)
    while process.poll() is None and _num_done(tmp_path) < target:
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _num_done(tmp_path) < whole
  subprocess.run(
    command(tmp_path), cwd=ROOT, env=environment, check=True, capture_output=True
  )
  assert (tmp_path / "results.json").read_bytes() == expected


def _num_done(workdir):
  return len(list(workdir.glob("stages/*/done.json")))


LORA = {
  "attack.lora.rank": 2,
  "attack.lora.alpha": 4.0,
  "attack.lora.targets": ("layers/(attention/query|mlp/down)/kernel",),
  # A few models only, and twenty checkpoints in each attack.
  "unlearn.methods": ("max_ent",),
  "undo.alphas": (),
  "undo.unlearn_and_distill": False,
  "undo.oracle_matching": False,
  "attack.num_steps": 40,
}


@pytest.fixture(scope="module")
def finished_lora(tmp_path_factory, environment):
  workdir = tmp_path_factory.mktemp("lora")
  done = subprocess.run(
    command(workdir, **LORA), cwd=ROOT, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return workdir


def test_attacks_with_adapters_are_told_apart(finished, finished_lora):
  found = json.loads((finished_lora / "results.json").read_text())
  assert list(found["models"]) == ["base", "data_filtering", "max_ent"]
  for model in found["models"].values():
    relearn = model["relearn"]
    assert relearn["attack"] == {
      "kind": "lora",
      "rank": 2,
      "alpha": 4.0,
      "targets": ["layers/(attention/query|mlp/down)/kernel"],
    }
    assert relearn["steps"] == list(range(0, 41, 2))
    assert relearn["worst_forget"][0] == model["before"]["forget"]
  directories = [
    {path.name for path in (workdir / "stages").iterdir()}
    for workdir in (finished[0], finished_lora)
  ]
  shared = {name.rpartition("-")[0] for name in set.intersection(*directories)}
  assert shared == {"data", "base", "data_filtering", "max_ent"}
  assert "LoRA, rank 2" in (finished_lora / "report.html").read_text()


def test_a_killed_attack_with_adapters_gives_the_same_adapters_and_results(
  finished_lora, environment, tmp_path
):
  again = command(tmp_path, **LORA)
  process = subprocess.Popen(
    again, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
  )
  while process.poll() is None and not _checkpoints(tmp_path, "attack_base"):
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert _num_done(tmp_path) == 4  # Data and three models, no attack.
  step = max(_checkpoints(tmp_path, "attack_base"))
  assert 0 < step < 40
  resumed = subprocess.run(
    again, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
  )
  assert f"attack_base: resuming after update {step}" in resumed.stderr
  for name in ("attack_base", "attack_max_ent"):
    one, other = _adapters(finished_lora, name), _adapters(tmp_path, name)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
      np.testing.assert_array_equal(x, y)
    for a, b in lora.pairs(one).values():
      assert np.all(np.any(b != 0, axis=(1, 2, 3)))  # Each rate has trained.
      assert np.any(a[0] != a[1])
  expected = (finished_lora / "results.json").read_bytes()
  assert (tmp_path / "results.json").read_bytes() == expected


def _checkpoints(workdir, name):
  found = workdir.glob(f"stages/{name}-*/checkpoints/*")
  return sorted(int(path.name) for path in found if path.name.isdigit())


def _adapters(workdir, name):
  """Reads a finished attack's population; that it is one of adapters is checked."""
  model = ModelConfig(**minimal().model)
  base = jax.eval_shape(Decoder(model).init, jax.random.key(0))
  settings = {"rank": 2, "targets": LORA["attack.lora.targets"]}
  one = jax.eval_shape(lambda: lora.init(base, jax.random.key(0), **settings))
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype, sharding=here), one
  )
  (directory,) = workdir.glob(f"stages/{name}-*/checkpoints")
  return load_params(directory, abstract)


@pytest.mark.parametrize(
  "name, value, message",
  [
    ("undo.alphas", "(0.3,1.2)", "config.undo.alphas[1]: expected a number"),
    ("undo.alpha", "0.3", "alpha"),
    ("undo.beta", "much", "much"),
    ("unlearn.methods", "('npo',)", "got 'npo'"),
    ("model.num_kv_heads", "3", "must divide num_heads=4"),
    ("mesh.fsdp", "3", "must multiply to the 1 devices"),
    (
      "attack.lora.rank",
      "17",
      "config.attack.lora: rank must lie in [1, min(in, out)]",
    ),
    ("seed", "1", "belongs to a run of another config"),
  ],
)
def test_bad_input_is_one_line_before_compute(
  finished, environment, name, value, message
):
  workdir, _ = finished
  done = subprocess.run(
    command(workdir, **{name: value}),
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith("error: ") and message in line
