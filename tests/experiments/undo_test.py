"""The whole pipeline at a minimal size: results, kill and resume, bad input."""

import itertools
import json
import shutil
import time

import jax
import numpy as np
import pytest

from tests import children, minimal
from undo_jax.frontier import results as results_lib
from undo_jax.models import lora
from undo_jax.models.decoder import Decoder
from undo_jax.plan import translation
from undo_jax.plan.config import parse
from undo_jax.training.checkpointing import load_params

pytestmark = pytest.mark.processes


def command(workdir, **changes):
  return ["undo", f"--workdir={workdir}", *minimal.flags(**changes)]


def finish(workdir, **changes):
  """Run to the end; return what was said."""
  status, out, said = children.run(*command(workdir, **changes))
  assert status == 0, said
  return out, said


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("finished")
  return workdir, finish(workdir)[0]


def results_of(workdir):
  path = workdir / "results.json"
  return results_lib.from_json(json.loads(path.read_text()), path=str(path))


def test_results_follow_the_schema(finished):
  workdir, _ = finished
  results = results_of(workdir)
  assert (results.schema, results.task, results.seeds) == (3, "arithmetic", (0,))
  assert tuple(results.models) == minimal.MODELS
  for name, model in results.models.items():
    (run,) = model.runs
    relearn = run.attacks["relearn"]
    assert relearn.steps == (0, 2, 4)
    assert relearn.worst_forget[0] == run.before.forget
    columns = list(zip(*relearn.forget_by_learning_rate, strict=True))
    largest = [max(column) for column in columns]
    assert relearn.forget_at_step == tuple(largest)
    # An attacker may stop early.
    assert relearn.worst_forget == tuple(itertools.accumulate(largest, max))
    for worst, rate in zip(
      relearn.worst_forget, relearn.worst_learning_rate, strict=True
    ):
      row = relearn.learning_rates.index(rate)
      assert worst in relearn.forget_by_learning_rate[row]
    assert len(relearn.by_task["forget_attacked"]) == 3
    assert relearn.tokens_per_update == 8 * 16
    assert (run.compute.flops == 0) == (name == "base")
  (filtered,) = results.models["data_filtering"].runs
  assert filtered.compute.fraction_of_filtered == 1
  assert results_lib.to_json(results) == json.loads(
    (workdir / "results.json").read_text()
  )


def test_compute_adds_the_teacher_and_its_passes(finished):
  models = results_of(finished[0]).models
  flops = {name: model.runs[0].compute.flops for name, model in models.items()}
  # In passes over rows, times rows: training costs 3, a teacher pass 1.
  pretraining, unlearning, distilling = 3 * 3 * 16, 2 * 6 * 16, 5 * 4 * 16
  unit = flops["data_filtering"] / pretraining
  assert flops["max_ent"] == unlearning * unit
  assert flops["undo_alpha_0.5"] == (unlearning + distilling) * unit
  assert flops["unlearn_and_distill"] == flops["undo_alpha_0.5"]
  assert flops["oracle_matching"] == (pretraining + distilling) * unit


def test_every_file_of_a_run_is_there(finished):
  workdir, printed = finished
  for name in ("config.json", "command.txt", "environment.json", "report.html"):
    assert (workdir / name).stat().st_size > 0
  assert len(list((workdir / "figures").glob("*.svg"))) == 6
  for stage in (workdir / "stages").iterdir():
    assert (stage / "done.json").exists() and (stage / "config.json").exists()
  assert "undo_alpha_0.5" in printed
  assert not list(workdir.rglob("*.pkl"))


def test_a_finished_run_does_nothing_and_says_so(finished):
  workdir, _ = finished

  def written():  # The lock tells who used the directory last.
    paths = (p for p in workdir.rglob("*") if p.is_file() and p.name != ".lock")
    return {path: path.stat().st_mtime_ns for path in paths}

  before = written()
  _, said = finish(workdir)
  assert "nothing to run" in said
  assert written() == before


def test_what_can_be_made_again_is_made_again(finished, tmp_path):
  workdir = shutil.copytree(finished[0], tmp_path / "run")
  whole = (workdir / "report.html").read_bytes()
  (workdir / "report.html").write_bytes(whole[:100])
  (workdir / "results.json").unlink()
  next((workdir / "figures").iterdir()).unlink()
  finish(workdir, report__budgets=(2, 4))
  assert results_of(workdir).report.budgets == (2, 4)  # Free to change.
  assert len(list((workdir / "figures").glob("*.svg"))) == 6
  assert (workdir / "report.html").read_bytes()[-20:] == whole[-20:]


def test_a_run_killed_again_and_again_gives_the_same_results(finished, tmp_path):
  kills = 2
  expected = (finished[0] / "results.json").read_bytes()
  whole = len(translation.plan(parse(minimal.config()), 0))
  lost = ("undo_alpha_0.5", "relearn_base", "relearn_undo_alpha_0.5")
  workdir = copied(finished[0], tmp_path / "run", without=lost)
  for kill in range(kills):
    process = children.start(*command(workdir))
    # Killed when it is a stage further, at whatever it then does.
    target = whole - len(lost) + kill + 1
    while process.poll() is None and _num_done(workdir) < target:
      time.sleep(0.02)
    process.kill()
    process.wait()
    assert _num_done(workdir) < whole
  finish(workdir)
  assert (workdir / "results.json").read_bytes() == expected


def copied(workdir, other, without):
  """Return a copy of a run that has lost stages and what came of them."""
  left_out = [f"{name}-*" for name in without]
  patterns = ("results.json", "report.html", "figures", *left_out)
  return shutil.copytree(workdir, other, ignore=shutil.ignore_patterns(*patterns))


def _num_done(workdir):
  return len(list(workdir.glob("stages/*/done.json")))


LORA = {
  "attacks.relearn.run": False,
  "attacks.lora.run": True,
  "attacks.lora.options.rank": 2,
  "attacks.lora.options.alpha": 4.0,
  "attacks.lora.options.targets": ("layers/(attention/query|mlp/down)/kernel",),
  # Two models, and eight checkpoints in each attack.
  **{
    f"models.{name}.run": False
    for name in ("data_filtering", "oracle_matching", "undo", "unlearn_and_distill")
  },
  "attacks.lora.num_steps": 16,
}


@pytest.fixture(scope="module")
def finished_lora(finished, tmp_path_factory):
  """Attack with adapters on models of the other run."""
  workdir = tmp_path_factory.mktemp("lora")
  for stage in (finished[0] / "stages").iterdir():
    if stage.name.rpartition("-")[0] in ("data", "base", "max_ent"):
      shutil.copytree(stage, workdir / "stages" / stage.name)
  _, said = finish(workdir, **LORA)
  assert "max_ent: " not in said.replace("lora_max_ent: ", "")  # It was there.
  return workdir


def test_attacks_with_adapters_are_told_apart(finished, finished_lora):
  results = results_of(finished_lora)
  assert list(results.models) == ["base", "max_ent"]
  assert results.attacks["lora"].trains == "low-rank adapters (LoRA, rank 2)"
  for model in results.models.values():
    relearn = model.runs[0].attacks["lora"]
    assert relearn.steps == tuple(range(0, 17, 2))
    assert relearn.worst_forget[0] == model.runs[0].before.forget
  own, others = (
    {path.name for path in (workdir / "stages").iterdir()}
    for workdir in (finished_lora, finished[0])
  )
  assert {name.rpartition("-")[0] for name in own & others} == {
    "data",
    "base",
    "max_ent",
  }
  assert {name.rpartition("-")[0] for name in own - others} == {
    "lora_base",
    "lora_max_ent",
  }
  assert len(own) == 5
  assert "LoRA, rank 2" in (finished_lora / "report.html").read_text()


def test_seeds_and_entries_may_be_added_and_only_they_are_run(finished_lora, tmp_path):
  workdir = shutil.copytree(finished_lora, tmp_path / "run")
  before = {path.name for path in (workdir / "stages").iterdir()}
  added = {"models.data_filtering.run": True, "seeds": (0, 1)}
  added["models.max_ent.run"] = False  # For seed 1 it would be trained as well.
  _, said = finish(workdir, **(LORA | added))
  assert "seed 0: base" not in said and "seed 1: base" in said
  assert "seed 0: data_filtering" in said
  assert before < {path.name for path in (workdir / "stages").iterdir()}
  results = results_of(workdir)
  assert results.seeds == (0, 1)
  assert {run.seed for run in results.models["data_filtering"].runs} == {0, 1}
  assert "±" in (workdir / "report.html").read_text()


def test_a_killed_attack_with_adapters_gives_the_same_adapters_and_results(
  finished_lora, tmp_path
):
  workdir = copied(finished_lora, tmp_path / "run", without=["lora_base"])
  process = children.start(*command(workdir, **LORA))
  while process.poll() is None and not _checkpoints(workdir, "lora_base"):
    time.sleep(0.02)
  process.kill()
  process.wait()
  assert _num_done(workdir) == 4  # Data, two models and the other attack.
  step = max(_checkpoints(workdir, "lora_base"))
  assert 0 < step < 16
  _, said = finish(workdir, **LORA)
  assert f"lora_base: resuming after update {step}" in said
  one, other = (_adapters(each, "lora_base") for each in (finished_lora, workdir))
  for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_array_equal(x, y)
  for a, b in lora.pairs(one).values():
    assert np.all(np.any(b != 0, axis=(1, 2, 3)))  # Each rate has trained.
    assert np.any(a[0] != a[1])
  expected = (finished_lora / "results.json").read_bytes()
  assert (workdir / "results.json").read_bytes() == expected


def _checkpoints(workdir, name):
  paths = workdir.glob(f"stages/{name}-*/checkpoints/*")
  return sorted(int(path.name) for path in paths if path.name.isdigit())


def _adapters(workdir, name):
  """Read a finished attack's population; that it is one of adapters is checked."""
  model = parse(minimal.config()).model
  base = jax.eval_shape(Decoder(model).init, jax.random.key(0))
  settings = {"rank": 2, "targets": LORA["attacks.lora.options.targets"]}
  one = jax.eval_shape(lambda: lora.init(base, jax.random.key(0), **settings))
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype, sharding=here), one
  )
  (directory,) = workdir.glob(f"stages/{name}-*/checkpoints")
  return load_params(directory, abstract)


WRONG = (
  ("models.undo.sweep.noise.alpha", "(0.3,1.2)", "undo.noise.alpha: expected a nu"),
  ("models.undo.alpha", "0.3", "alpha"),
  ("models.undo.noise.beta", "much", "much"),
  ("models.undo.noise.beta", "None", "models.undo.noise.beta: expected a valid"),
  ("models.max_ent.objective", "npo", "'npo'"),
  ("model.num_kv_heads", "3", "must divide num_heads=4"),
  ("mesh.fsdp", "3", "must multiply to the 1 devices"),
  ("attacks.lora.run", "True", "rank must lie in [1, min(in, out)]"),
  ("checkpoint_every", "1e400", "checkpoint_every"),
  ("models.base.optimizer.num_steps", "4", "belongs to a run of another config"),
)


def test_bad_input_is_one_line_before_compute(finished):
  workdir, _ = finished
  for name, value, message in WRONG:
    more = {"attacks.lora.options.rank": 17} if name == "attacks.lora.run" else {}
    status, _, said = children.run(*command(workdir, **{name: value}, **more))
    assert status == 2
    (line,) = said.strip().splitlines()
    assert line.startswith("error: ") and message in line
