"""A teacher's predictions as a stage, and the students that read them."""

import dataclasses
import json
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from scipy import special

from tests import minimal
from tests.running.variants import take_base
from undo_jax import running, tasks, testing
from undo_jax.data import predictions as saved
from undo_jax.distributed import sharding
from undo_jax.estimation import programs as estimated_programs
from undo_jax.estimation import workload
from undo_jax.frontier import reading
from undo_jax.hardware.flops import forward_flops
from undo_jax.models.decoder import Decoder
from undo_jax.plan import checks, lineages, stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import predictions, programs
from undo_jax.running.data import batches_of
from undo_jax.running.run import load
from undo_jax.utils.types import ConfigError

ROWS, K, LENGTH = 2 * 64, 3, 16  # Of two splits of 64 equations.
STUDENTS = ("undo_alpha_0.5", "unlearn_and_distill")


def kept_run(workdir, base, mesh, *, keep=True, **changes):
  """Return a run, not yet run, of two students of the base and what they need."""
  config = minimal.config(
    models__undo__frozen__teacher="base",
    models__undo__teacher_predictions__keep=keep,
    models__undo__options__teacher_top_k=K,
    **changes,
  )
  declared = parse(config)
  checks.check(declared, dict(mesh.shape))
  plan = translation.plan(declared, 0)
  run = running.Run(
    workdir,
    mesh,
    checkpoint_every=100,
    evaluation_rows=24,
    replicas_at_once=None,
    stages=tuple(lineages.needed(plan, STUDENTS)),
  )
  take_base(run, base)
  return run


def stage_of(run) -> stages.PredictionsStage:
  """Return the stage of the teacher's predictions."""
  (stage,) = (s for s in run.stages if isinstance(s, stages.PredictionsStage))
  return stage


def student_of(run, name) -> stages.TrainStage:
  """Return the stage of a student."""
  (stage,) = (s for s in run.stages if s.name == name)
  assert isinstance(stage, stages.TrainStage)
  return stage


def train_rows(run, name):
  """Return the rows of training in a stage's metrics."""
  lines = (run.directories[name] / "metrics.jsonl").read_text().splitlines()
  return [row for row in map(json.loads, lines) if row["kind"] == "train"]


@pytest.fixture(scope="module")
def finished(chain, tmp_path_factory):
  """The runs with and without kept predictions, and what came of each."""
  runs = {}
  for keep in (True, False):
    root = tmp_path_factory.mktemp(f"kept_{keep}")
    run = kept_run(root, chain[1], testing.mesh(1), keep=keep)
    runs[keep] = run, running.run_stages(run)
  return runs


def arrays_of(run):
  """Return what is kept, by split, whole."""
  stage = stage_of(run)
  folder = run.directories[stage.name] / predictions.FOLDER
  layout = predictions.layout(stage.model, stage.kept)
  load = lambda s: saved.load(folder, s, layout, rows=64, length=LENGTH)  # noqa: E731
  return {split: load(split) for split in stage.splits}


def test_two_students_read_one_stage_which_costs_a_pass_over_the_rows(finished):
  run, outcomes = finished[True]
  names = [stage.name for stage in run.stages]
  assert names == ["data", "base", "predictions_base", *STUDENTS]
  a_row = forward_flops(run.stages[1].model, LENGTH)
  outcome = outcomes["predictions_base"]
  assert outcome["compute"] == {"updates": 0, "tokens": 0, "flops": ROWS * a_row}
  # Three tokens of a byte each, and four numbers of four.
  assert outcome["predicted"] == ROWS and outcome["bytes"] == ROWS * LENGTH * 19
  rows = {"retain": 64, "forget": 64}
  assert workload.flops_of(run.stages[2], (), rows) == ROWS * a_row
  assert workload.flops_of(run.stages[2], ()) == 0
  for name, start in zip(STUDENTS, ({"init": "base"}, {}), strict=True):
    # Three passes of the student for 5 updates of 16 rows; the teacher's is a fourth.
    assert outcomes[name]["compute"]["flops"] == 5 * 16 * 3 * a_row
    assert finished[False][1][name]["compute"]["flops"] == 5 * 16 * 4 * a_row
    student = student_of(run, name)
    reads = {"data": "data", "predictions": "predictions_base"}
    assert not student.frozen and student.inputs == reads | start
    lineage = [stage.name for stage in lineages.lineage(run.stages, name)]
    assert sorted(lineage) == ["predictions_base", name]


@pytest.mark.parametrize("updates, rows", [(3, 48), (5, 80), (9, 128), (90, 128)])
def test_a_student_pays_for_each_row_that_it_has_read_once(finished, updates, rows):
  # Batches of 8 rows of each of two splits, of 64 rows: 8 updates read all of them.
  run, outcomes = finished[True]
  a_row = forward_flops(run.stages[1].model, LENGTH)
  trained = {"updates": updates, "tokens": 0, "flops": 7}
  with_student = outcomes | {STUDENTS[0]: {"updates": updates, "compute": trained}}
  cost = reading.cost(run.stages, with_student, STUDENTS[0])
  assert cost.flops == 7 + rows * a_row


def test_students_train_as_with_the_teacher_in_the_step(finished):
  for name in STUDENTS:
    got, expected = (train_rows(finished[keep][0], name) for keep in (True, False))
    assert len(got) == 5 and got[0]["forward_kl"] > 1e-3
    for mine, theirs in zip(got, expected, strict=True):
      for field in ("loss", "forward_kl", "gradient_norm"):
        np.testing.assert_allclose(mine[field], theirs[field], rtol=1e-4)


def test_what_is_kept_is_what_the_model_predicts_for_each_row(finished):
  run, _ = finished[True]
  params = load(run, "base", run.stages[1].model)
  directory = run.directories["data"]
  apply = jax.jit(Decoder(run.stages[1].model).apply)
  for split, arrays in arrays_of(run).items():
    rows = tasks.get("arithmetic").source(run.data.data, directory, split)
    tokens = np.stack([rows[i]["tokens"] for i in range(len(rows))])
    logits = np.float64(apply(params, tokens[:, :-1]).logits)
    order = np.argsort(-logits, axis=-1)[..., :K]
    log_p = special.log_softmax(logits, axis=-1)
    rest = np.exp(log_p)
    np.put_along_axis(rest, order, 0.0, axis=-1)
    kept = np.take_along_axis(log_p, order, axis=-1)
    expected = np.concatenate([kept, np.log(rest.sum(-1, keepdims=True))], axis=-1)
    assert isinstance(arrays["teacher_log_probs"], np.memmap)
    np.testing.assert_allclose(arrays["teacher_log_probs"], expected, rtol=0, atol=1e-5)
    assert arrays["teacher_tokens"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["teacher_tokens"], order)


def test_a_batch_is_of_the_shapes_that_are_estimated(finished):
  run, _ = finished[True]
  student = student_of(run, STUDENTS[0])
  _, _, (_, frozen, estimated, _) = estimated_programs.of_stage(student, run.mesh)
  batch: Any = batches_of(run, student)[0]
  of = lambda tree: {k: (x.shape, np.dtype(x.dtype)) for k, x in tree.items()}  # noqa: E731
  assert of(batch) == of(estimated) and len(batch) == 5 and not frozen


def test_a_killed_stage_goes_on_after_its_last_chunk(finished, chain, tmp_path):
  run, outcomes = finished[True]
  other = kept_run(tmp_path, chain[1], run.mesh)
  stage, calls = stage_of(other), []
  directory = other.directories[stage.name]
  program = predictions.predict(stage.model, run.mesh, K)

  def predict(*args):
    calls.append(None)
    if len(calls) == 5:
      raise KeyboardInterrupt
    return program(*args)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(predictions, "predict", lambda *_: predict)
    with pytest.raises(KeyboardInterrupt):
      predictions.run_predictions(other, stage, directory, "interrupted")
    # Chunks of 24, 24 and 16 rows of the first split, and 24 of the second.
    assert len(list(directory.rglob("parts/*/*.teacher_log_probs.npy"))) == 1
    # As a process leaves it that ends between the arrays of a chunk.
    part = next(directory.rglob("parts/*/*.teacher_tokens.npy"))
    shutil.copy(part, part.with_name(f"{24:012d}-{44:012d}.teacher_tokens.npy"))
    smaller = dataclasses.replace(other, evaluation_rows=20)
    resumed = predictions.run_predictions(smaller, stage, directory, "resumed")
  assert resumed == outcomes[stage.name] and len(calls) == 5 + 2
  assert not list(directory.rglob("parts/*/*"))
  for split, arrays in arrays_of(other).items():
    expected = arrays_of(run)[split]
    for name, array in arrays.items():
      np.testing.assert_allclose(array, expected[name], rtol=1e-5)


def test_a_student_does_not_read_a_changed_bit(finished, chain, tmp_path):
  run, _ = finished[True]
  other = dataclasses.replace(run, workdir=tmp_path)
  for name in ("data", "base", "predictions_base"):
    shutil.copytree(run.directories[name], other.directories[name])
  folder = other.directories["predictions_base"] / predictions.FOLDER
  path = sorted(folder.glob("*.teacher_log_probs.npy"))[-1]
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)
  with pytest.raises(ConfigError, match=f"^{path} is not as it was written") as error:
    running.run_stages(other)
  assert "delete the directory of its stage" in str(error.value)


def test_predictions_are_the_same_on_eight_devices():
  model, inputs = testing.config(num_layers=1), testing.batch(jax.random.key(1))
  predicted = []
  for mesh in (testing.mesh(1), testing.mesh(8, data=2, fsdp=2, tensor=2)):
    params = jax.tree.map(
      lambda x, s: sharding.put_whole(x, s.sharding),
      testing.weights(model),
      programs.abstract_params(model, mesh),
    )
    rows = sharding.put_whole(inputs["inputs"], sharding.batch_sharding(mesh))
    predicted.append(jax.device_get(predictions.predict(model, mesh, 4)(params, rows)))
  one, eight = predicted
  np.testing.assert_allclose(
    eight["teacher_log_probs"], one["teacher_log_probs"], rtol=0, atol=1e-4
  )
  np.testing.assert_array_equal(eight["teacher_tokens"], one["teacher_tokens"])
