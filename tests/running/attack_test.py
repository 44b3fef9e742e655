"""An attack as a stage: what it perturbs, trains and scores, alone and with others."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import minimal, sharing
from tests.running.variants import params_of, params_of_population
from undo_jax import running, testing
from undo_jax.distributed import preemption
from undo_jax.distributed import sharding as sharding_lib
from undo_jax.plan import translation
from undo_jax.plan.config import parse
from undo_jax.running import programs
from undo_jax.running import sharing as board_lib
from undo_jax.tasks import arithmetic
from undo_jax.training import checkpointing, writers
from undo_jax.training.checkpointing import Checkpoints
from undo_jax.utils import files, leases
from undo_jax.utils.types import ConfigError

MODELS = ("base", "max_ent")
ATTACKS = ("relearn_base", "relearn_max_ent")


def _make_evaluate(apply, names, *, rows_at_once):
  """Score by numbers that no two models have in common, cheaply; inf if diverged."""
  del rows_at_once

  def scores(params, problems):
    logits = apply(params, problems["inputs"]).logits
    every = (*names, "retain", "forget")
    means = {name: jnp.mean(logits[..., i]) for i, name in enumerate(every)}
    return {name: jnp.where(abs(x) < 4, x, jnp.inf) for name, x in means.items()}

  return scores


_made = {}


def _problems(data, seeds, directory):
  """Make the problems once: they are the same in all runs."""
  if not _made:
    _made[()] = arithmetic.TASK.problems(data, seeds, directory)
  return _made[()]


TASK = dataclasses.replace(
  arithmetic.TASK, make_evaluate=_make_evaluate, problems=_problems
)


def test_the_attack_perturbs_and_trains_its_part_of_the_model(variants):
  run, outcomes = variants
  model = params_of(run, "undo_alpha_0.5")
  attacked = params_of_population(run, "relearn_undo_alpha_0.5")
  np.testing.assert_array_equal(attacked["embedding"][0], model["embedding"])
  kernel, start = (
    tree["layers"]["attention"]["query"]["kernel"] for tree in (attacked, model)
  )
  np.testing.assert_array_equal(kernel[0, 1], start[1])
  # Two updates of at most 0.01 after the model shrank by 0.3.
  shrunk = np.sum(kernel[0, 0] * start[0]) / np.sum(start[0] ** 2)
  assert 0.5 < shrunk < 0.9
  assert outcomes["relearn_undo_alpha_0.5"]["steps"] == [0, 1, 2]


@functools.cache
def declared(rates=None):
  config = minimal.only(minimal.config(model__num_layers=1), MODELS)
  if rates is not None:
    config.attacks.relearn.learning_rates = rates
  config.task = f"{__name__}:TASK"
  return parse(config)


def made(
  workdir, *, seed=0, models_at_once=1, replicas_at_once=None, damaged=(), rates=None
):
  """Return a run whose models are there, and are to be attacked.

  Nothing was trained for them: their weights are drawn, and not finite if damaged.
  """
  run = running.Run(
    workdir,
    testing.mesh(1),
    checkpoint_every=100,
    evaluation_rows=64,
    replicas_at_once=replicas_at_once,
    models_at_once=models_at_once,
    stages=tuple(translation.plan(declared(rates), seed)),
    writers=("jsonl",),
  )
  for number, name in enumerate(MODELS):
    params = minimal.params(declared().model)
    params["embedding"] *= np.float32(np.nan if name in damaged else 1 + number)
    checkpoints = Checkpoints(run.directories[name] / "checkpoints")
    checkpoints.save(0, jax.device_put(params), {"step": jnp.zeros((), int)})
    checkpoints.close()
    files.write_record(run.directories[name] / "done.json", {})
  return run


def copied(run, other):
  """Give a run the data of another."""
  shutil.copytree(other.directories["data"], run.directories["data"])
  return run


@functools.cache
def alone(root):
  """Return a run whose attacks have each been a program."""
  run = made(root)
  running.run_shared([run])
  return run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return tmp_path_factory.mktemp("attacks")


def assert_equal(run, other, names=ATTACKS):
  for name in names:
    here, there = run.directories[name], other.directories[name]
    assert here.name == there.name
    for file in ("done.json", "config.json"):
      assert (here / file).read_bytes() == (there / file).read_bytes(), (name, file)
    one, two = (sharing.checkpoint(x.workdir, name) for x in (run, other))
    assert list(one) == list(two) and one
    for path in one:
      assert one[path].tobytes() == two[path].tobytes(), (name, path)
    rows = [writers.read_jsonl(x / "metrics.jsonl") for x in (here, there)]
    worst = [[(row["step"], row["worst_forget"]) for row in each] for each in rows]
    assert worst[0] == worst[1] and len(worst[0]) == 2


def test_attacks_as_one_program_come_to_what_each_comes_to_alone(
  root, tmp_path, monkeypatch
):
  """Bit for bit, stopped halfway and resumed or not."""
  run = copied(made(tmp_path, models_at_once=2), alone(root))
  sizes, attack_of = [], programs.attack_of

  def counted(*args):
    sizes.append(args[-1])
    return attack_of(*args)

  def stop(finish):
    finish()
    raise preemption.Preempted

  monkeypatch.setattr(programs, "attack_of", counted)
  with monkeypatch.context() as patch, pytest.raises(preemption.Preempted):
    patch.setattr(preemption, "check", stop)
    running.run_shared([run])
  assert run.done("relearn_base") is None
  running.run_shared([run])
  assert sizes == [2, 2]
  assert_equal(run, alone(root))
  scores = np.array([run.done(x)["scores"]["forget"] for x in ATTACKS])
  assert len(set(scores[..., 1:].ravel().tolist())) == 8  # Or equality proves little.


def stop_at(patch, number):
  """Stop the run, as a signal would, after so many calls of the attack's program."""
  calls = []

  def stop(finish):
    calls.append(None)
    if len(calls) == number:
      finish()
      raise preemption.Preempted

  patch.setattr(preemption, "check", stop)


def resumed(run, monkeypatch, number):
  """Run, but stopped halfway."""
  with monkeypatch.context() as patch, pytest.raises(preemption.Preempted):
    stop_at(patch, number)
    running.run_shared([run])
  assert run.done("relearn_base") is None
  running.run_shared([run])
  return run


@pytest.fixture(scope="module")
def in_turn(root, tmp_path_factory):
  """A run whose members of an attack were trained one after the other."""
  run = made(tmp_path_factory.mktemp("turn"), models_at_once=2, replicas_at_once=1)
  running.run_shared([copied(run, alone(root))])
  return run


def test_groups_in_turn_come_to_what_all_members_at_once_come_to(root, in_turn):
  for name in ATTACKS:
    scores, expected = (x.done(name)["scores"] for x in (in_turn, alone(root)))
    assert list(scores) == list(expected)
    for key, values in scores.items():
      np.testing.assert_allclose(values, expected[key], rtol=1e-4, atol=1e-6)
    one, two = (sharing.checkpoint(x.workdir, name) for x in (in_turn, alone(root)))
    for path in two:
      np.testing.assert_allclose(one[path], two[path], rtol=1e-4, atol=1e-5)
    rows = writers.read_jsonl(in_turn.directories[name] / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6, 8]  # Of both groups.
    worst = [row["worst_forget"] for row in rows]
    np.testing.assert_allclose(worst[2:], in_turn.done(name)["worst_forget"][1:], 1e-5)


@pytest.mark.parametrize("number", [1, 2, 3])  # In a group, between two.
def test_groups_go_on_where_they_were_stopped(
  root, in_turn, tmp_path, monkeypatch, number
):
  run = made(tmp_path, models_at_once=2, replicas_at_once=1)
  resumed(copied(run, alone(root)), monkeypatch, number)
  for name in ATTACKS:
    assert run.done(name) == in_turn.done(name)
    one, two = (sharing.checkpoint(x.workdir, name) for x in (run, in_turn))
    assert all(one[path].tobytes() == two[path].tobytes() for path in two)


def test_groups_of_another_size_cannot_go_on(root, tmp_path, monkeypatch):
  run = copied(made(tmp_path, replicas_at_once=1), alone(root))
  with monkeypatch.context() as patch, pytest.raises(preemption.Preempted):
    stop_at(patch, 1)
    running.run_shared([run])
  with pytest.raises(
    ConfigError, match="replicas_at_once: expected 1, .* got 2 at once"
  ):
    running.run_shared([dataclasses.replace(run, replicas_at_once=None)])
  running.run_shared([run])


def test_a_group_whose_rates_are_too_high_leaves_the_others(
  root, tmp_path, monkeypatch
):
  """Its scores are no numbers; the worst of the others counts."""
  run = made(tmp_path, replicas_at_once=1, rates=(1e6, 1e-3))
  steps, save = [], Checkpoints.save

  def counted(self, step, *trees):
    if save(self, step, *trees):
      steps.append(step)

  monkeypatch.setattr(Checkpoints, "save", counted)
  running.run_shared([copied(run, alone(root))])
  assert steps == [4, 8] * 2  # Once for both groups' evaluations, of two models.
  outcome = run.done("relearn_base")
  diverged, finite = np.array(outcome["scores"]["forget"], float)
  assert np.all(np.isnan(diverged[1:])) and np.all(np.isfinite(finite))
  np.testing.assert_allclose(outcome["worst_forget"], finite, rtol=1e-5)
  rows = writers.read_jsonl(run.directories["relearn_base"] / "metrics.jsonl")
  assert [row["worst_forget"] is None for row in rows] == [True, True, False, False]


def test_a_model_that_diverges_ends_by_its_line_when_the_others_are_finished(
  root, tmp_path
):
  run = copied(
    made(tmp_path, models_at_once=2, damaged=["base"]),
    alone(root),
  )
  with pytest.raises(ConfigError) as together:
    running.run_shared([run])
  assert "learning_rates: expected one at which relearning stays" in str(together.value)
  assert run.done("relearn_base") is None
  assert_equal(run, alone(root), ["relearn_max_ent"])
  # The same line as alone; only that is left to run.
  with pytest.raises(ConfigError) as by_itself:
    running.run_shared([run])
  assert str(by_itself.value) == str(together.value)


def test_a_lost_lease_leaves_the_others_of_the_program(root, tmp_path, monkeypatch):
  run = copied(made(tmp_path, models_at_once=2), alone(root))
  directory = run.directories["relearn_base"]
  put_batch, chunks = sharding_lib.put_batch, []

  def lose(batch, mesh, **kwargs):
    """Another process takes one of the stages after the first evaluation."""
    chunks.append(kwargs.get("leading"))
    if chunks.count(2) == 2:
      taken = {"holder": "someone else", "machine": "another"}
      files.create_json(directory / "leases/2.json", taken)
    return put_batch(batch, mesh, **kwargs)

  def finish(seconds):
    """It finishes the stage."""
    del seconds
    assert run.done("relearn_max_ent") is not None
    assert not (directory / "checkpoints/4").exists()
    files.write_record(directory / "done.json", {"by": "another"})

  monkeypatch.setattr(sharding_lib, "put_batch", lose)
  monkeypatch.setattr(board_lib.time, "sleep", finish)
  running.run_shared([run])
  assert run.done("relearn_base") == {"by": "another"}
  assert_equal(run, alone(root), ["relearn_max_ent"])


def test_what_is_taken_together(root, tmp_path):
  """Attack that differ in the model alone, that nobody runs, so many at most."""

  def take(run, *others):
    board = board_lib.Board([run, *others])
    taken = board.take()
    for task in taken:
      board.lease(task).release()
    return [task.name for task in taken]

  run = copied(made(tmp_path, models_at_once=3), alone(root))
  names = [run.directories[name].name for name in ATTACKS]
  # The attack of another seed reads other rows.
  other = made(run.workdir, seed=1, models_at_once=3)
  shutil.copytree(run.directories["data"], other.directories["data"])
  assert take(run, other) == names
  assert take(dataclasses.replace(run, models_at_once=1)) == names[:1]
  held = leases.Lease(run.directories["relearn_base"] / "leases")
  assert held.take()
  assert take(run, other) == names[1:]
  held.release()


def test_a_killed_attack_goes_on_from_the_checkpoint_before_a_damaged_one(
  root, tmp_path, monkeypatch
):
  run = copied(made(tmp_path), alone(root))

  def kill(directory):
    if directory.exists():  # A stage with a model.
      raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(checkpointing, "keep_newest", kill)
    running.run_shared([run])
  checkpoints = run.directories["relearn_base"] / "checkpoints"
  assert sorted(path.name for path in checkpoints.iterdir()) == ["2", "4"]
  damaged = files.tree(checkpoints / "4" / "params")[0]
  damaged.write_bytes(b"")
  running.run_shared([run])
  assert_equal(run, alone(root))
