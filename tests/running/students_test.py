"""Students of one teacher that take each batch together."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from tests import minimal
from tests.running.predictions_test import student_of, train_rows
from undo_jax import running, testing
from undo_jax.distributed import preemption
from undo_jax.hardware import memory
from undo_jax.plan import checks, lineages, stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import students
from undo_jax.running.run import load
from undo_jax.running.sharing import Board
from undo_jax.training import loop
from undo_jax.utils import records

STUDENTS = ("undo_alpha_0.3", "undo_alpha_0.6", "warm", "unlearn_and_distill")
STEPS = 5


def made(workdir, chain, *, mesh=None, at_once=4, names=STUDENTS, **changes):
  """Return a run, not yet run, of students of the base."""
  config = minimal.config(
    models__undo__frozen__teacher="base",
    models__undo__sweep__noise__alpha=(0.3, 0.6),
    **changes,
  )
  config.models.warm = config.models.unlearn_and_distill.copy_and_resolve_references()
  config.models.warm.options = {"temperature": 2.0}
  config.models.warm.optimizer.num_steps = 3
  mesh = mesh or testing.mesh(1)
  declared = parse(config)
  checks.check(declared, dict(mesh.shape))
  plan = translation.plan(declared, 0)
  run = running.Run(
    workdir,
    mesh,
    checkpoint_every=2,
    evaluation_rows=24,
    replicas_at_once=None,
    students_at_once=at_once,
    stages=tuple(lineages.needed(plan, names)),
  )
  for name in ("data", "base"):
    source = chain[1].parent / run.directories[name].name
    shutil.copytree(source, run.directories[name])
  return run


def weights(run, name):
  """Return a student's parameters."""
  return jax.device_get(load(run, name, student_of(run, name).model))


def assert_equal(run, other, names=STUDENTS):
  """Assert that students of two runs are the same, bit for bit."""
  for name in names:
    got, expected = (weights(each, name) for each in (run, other))
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@pytest.fixture
def passes(monkeypatch):
  """The batches that a teacher has predicted."""
  seen, of_batch = [], students.predictions.of_batch

  def counted(model, mesh):
    program = of_batch(model, mesh)

    def predict(params, inputs):
      seen.append(inputs)
      return program(params, inputs)

    return predict

  monkeypatch.setattr(students.predictions, "of_batch", counted)
  return seen


@pytest.fixture(scope="module")
def together(chain, tmp_path_factory):
  """The run of all students, finished."""
  run = made(tmp_path_factory.mktemp("together"), chain)
  return run, running.run_stages(run)


def test_a_batch_is_predicted_once_for_students_that_end_at_different_updates(
  chain, tmp_path, passes
):
  run = made(tmp_path, chain)
  outcomes = running.run_stages(run)
  assert len(passes) == STEPS
  updates = {name: outcomes[name]["updates"] for name in STUDENTS}
  assert updates == dict.fromkeys(STUDENTS, STEPS) | {"warm": 3}
  # It costs as much as with a teacher of its own.
  flops = {name: outcomes[name]["compute"]["flops"] for name in STUDENTS}
  assert flops["warm"] * STEPS == flops["undo_alpha_0.3"] * 3


def test_they_train_as_with_a_teacher_in_the_step_of_each(together, chain, tmp_path):
  alone = made(tmp_path, chain, at_once=1)
  running.run_stages(alone)
  for name in STUDENTS:
    got, expected = (train_rows(run, name) for run in (together[0], alone))
    assert len(got) == len(expected) >= 3 and got[0]["forward_kl"] > 1e-3
    for mine, theirs in zip(got, expected, strict=True):
      for field in ("loss", "forward_kl", "gradient_norm"):
        np.testing.assert_allclose(mine[field], theirs[field], rtol=1e-4)


@pytest.mark.parametrize("names", [("warm",), STUDENTS[1:]])
def test_who_goes_with_a_student_changes_no_bit(together, chain, tmp_path, names):
  run = made(tmp_path, chain, names=names, at_once=2)
  running.run_stages(run)
  assert_equal(run, together[0], names)


def test_a_stopped_run_goes_on_bit_for_bit(together, chain, tmp_path, monkeypatch):
  run, asked = made(tmp_path, chain), []

  def ask():
    asked.append(None)
    is_second_round = len(asked) > len(STUDENTS)
    return lambda: is_second_round  # Is read in the third.

  with monkeypatch.context() as patch, pytest.raises(preemption.Preempted):
    patch.setattr(preemption, "ask", ask)
    running.run_stages(run)
  saved = {p.name for name in STUDENTS for p in saved_steps(run, name)}
  assert saved == {"2", "3"}
  assert not any(run.done(name) for name in STUDENTS)
  running.run_stages(run)
  assert_equal(run, together[0])


def saved_steps(run, name):
  """Return the checkpoints of a student that is not finished."""
  return (run.directories[name] / "checkpoints").glob("[0-9]*")


def test_students_that_are_not_equally_far_go_apart(together, chain, tmp_path, passes):
  run = made(tmp_path, chain)
  source = together[0].directories["undo_alpha_0.3"]
  shutil.copytree(source, run.directories["undo_alpha_0.3"])
  (run.directories["undo_alpha_0.3"] / "done.json").unlink()
  assert {p.name for p in saved_steps(run, "undo_alpha_0.3")} == {str(STEPS)}
  running.run_stages(run)
  assert len(passes) == STEPS  # The one that is at the end needs none.
  assert_equal(run, together[0])


def test_one_that_diverges_leaves_the_others_alone(together, chain, tmp_path):
  run = made(tmp_path, chain)
  number = [s.name for s in run.stages].index("undo_alpha_0.6")
  stage = student_of(run, "undo_alpha_0.6")
  wild = records.replaced(stage.optimizer, learning_rate=1e6, final_learning_rate=1e6)
  plan = [*run.stages]
  plan[number] = records.replaced(stage, optimizer=wild)
  run = dataclasses.replace(run, stages=tuple(plan), max_loss=5.0)
  with pytest.raises(FloatingPointError, match="^the loss is"):
    running.run_stages(run)
  others = [name for name in STUDENTS if name != "undo_alpha_0.6"]
  assert all(run.done(name) for name in others)
  assert not run.done("undo_alpha_0.6")
  assert_equal(run, together[0], others)


def test_they_are_the_same_on_eight_devices(together, chain, tmp_path):
  mesh = testing.mesh(8, data=2, fsdp=2, tensor=2)
  run = made(tmp_path, chain, mesh=mesh, names=STUDENTS[:2])
  running.run_stages(run)
  for name in STUDENTS[:2]:
    got, expected = (train_rows(each, name) for each in (run, together[0]))
    for mine, theirs in zip(got, expected, strict=True):
      np.testing.assert_allclose(mine["loss"], theirs["loss"], rtol=1e-4)


@pytest.mark.parametrize(
  "changes",
  [
    {"options": {"base_share": 0.5}},
    {"options": {"activation_weight": 1.0}},
    {"options": {"prompt": [1, 2]}},
    {"objective": "cross_entropy", "frozen": {}},
    {"model": {"logits_chunk": 8}},
    {"batch_size": 2**20, "rows": {"batch": 2**20}, "model": {"vocab_size": 2**15}},
  ],
)
def test_a_student_that_needs_more_than_predictions_goes_alone(
  chain, tmp_path, changes
):
  run = made(tmp_path, chain)
  stage = student_of(run, "undo_alpha_0.3")
  model = dataclasses.replace(stage.model, **changes.pop("model", {}))
  assert students.can_share(stage, run.mesh, 4)
  other = records.replaced(stage, model=model, **changes)
  assert not students.can_share(other, run.mesh, 4)
  assert not students.can_share(stage, run.mesh, 1)
  assert students.number(run, other) == 1


def test_students_of_another_teacher_or_of_other_batches_do_not_go_together(
  chain, tmp_path
):
  run = made(tmp_path, chain)
  stage, other = (student_of(run, name) for name in STUDENTS[:2])
  assert students.are_alike(run, stage, run, other)
  changes = [
    {"frozen": {"teacher": "data"}},
    {"parts": {"batch": {"retain": 1.0}}},
    {"rows": {"batch": 8}},
    {"length": 8},
    {"seeds": {**other.seeds, other.order_stream: 1}},
    {"labels": stages.RowLabels(share=0.5, forget=("forget",), is_filter=True)},
  ]
  for change in changes:
    assert not students.are_alike(run, stage, run, records.replaced(other, **change))
  dispatched = dataclasses.replace(run, updates_at_once=2)
  assert not students.are_alike(dispatched, stage, dispatched, other)


@pytest.mark.parametrize("states, expected", [(0.5, 1), (1.5, 2), (2.5, 3), (99, 4)])
def test_as_many_go_together_as_memory_allows(
  chain, tmp_path, monkeypatch, states, expected
):
  run = made(tmp_path, chain)
  stage = student_of(run, "undo_alpha_0.3")
  size = students.state_bytes(stage, run.mesh)
  parameters = sum(x.size for x in jax.tree.leaves(minimal.params(stage.model)))
  # Weights, two moments, and three counts of updates.
  assert size == 4 * (3 * parameters + 3)
  monkeypatch.setattr(memory, "free_bytes", lambda device: 4 * states * size)
  assert len(Board([run]).take()) == expected


def test_an_error_of_another_kind_ends_all():
  def failing():
    yield 1
    raise ZeroDivisionError

  def going():
    while True:
      yield 1

  with pytest.raises(ZeroDivisionError):
    list(
      loop.train_together(
        [failing(), going()], iter(range(9)), put=lambda batch: batch, meters=[]
      )
    )
