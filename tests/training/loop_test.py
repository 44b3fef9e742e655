"""A stage that is killed and resumed ends as one that was not, bit for bit."""

import functools
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import objectives
from undo_jax.data import pipeline
from undo_jax.distributed import preemption
from undo_jax.models.gemma2 import Output
from undo_jax.training import loop, optimizers
from undo_jax.training.checkpointing import Checkpoints, load_params
from undo_jax.training.meter import Meter
from undo_jax.training.profiling import Profiler
from undo_jax.training.state import create
from undo_jax.training.step import make_step
from undo_jax.training.writers import JsonlWriter, Progress, read_jsonl
from undo_jax.utils import files
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import ConfigError

VOCABULARY, WIDTH = 16, 8
PLAIN = optimizers.OptimizerConfig(learning_rate=1e-2, num_steps=10)


def apply(params, tokens):
  """Logits of each token alone: the loop knows no model, and this one is small."""
  hidden = jnp.tanh(params["embedding"][tokens] @ params["layer"]["kernel"])
  return Output(hidden @ params["embedding"].T, {})


@functools.cache
def made(config):
  """Returns the function of a fresh state, and the step."""
  optimizer = optimizers.make_optimizer(config)

  @jax.jit
  def fresh():
    normal = np.random.default_rng(0).standard_normal
    params = {
      "embedding": normal((VOCABULARY, WIDTH)),
      "layer": {"kernel": normal((WIDTH, WIDTH))},
    }
    return create(jax.tree.map(jnp.float32, params), optimizer)

  step = make_step(objectives.make("cross_entropy", apply), optimizer)
  return fresh, jax.jit(step, donate_argnums=0)


fresh, STEP = made(PLAIN)
ABSTRACT = jax.eval_shape(fresh)


class Rows:
  def __len__(self):
    return 40

  def __getitem__(self, index):
    tokens = np.random.default_rng(index).integers(0, VOCABULARY, 9).astype(np.int32)
    return {"tokens": tokens, "mask": np.ones(9, np.uint8)}


class Killed(Exception):
  """Stands for a kill: nothing after it runs."""


def run(
  directory, *, num_steps=10, kill_at=None, stop_at=None, step_fn=None, config=PLAIN
):
  """Runs a stage as the runner does, from its newest checkpoint."""
  fresh, step = made(config)
  checkpoints = Checkpoints(directory / "checkpoints", num_kept=2, is_resumed=True)
  start = checkpoints.latest()
  mixture = pipeline.mixture([Rows()], seed=0, batch_size=4)
  batches = pipeline.iterator(mixture, start=start or 0)
  if start is None:
    state = fresh()
  else:
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where),
      jax.eval_shape(fresh),
    )
    state = loop.restore(checkpoints, start, abstract)
  evaluated = []

  def put(batch):
    if put.count == kill_at:
      raise Killed
    put.count += 1
    return batch

  put.count = start or 0

  def evaluate(params):
    evaluated.append(put.count)
    return {"retain": float(np.sum(np.asarray(params["embedding"]) ** 2))}

  writer = JsonlWriter(directory / "metrics.jsonl", resume_step=start or 0)
  try:
    return loop.train(
      step_fn or step,
      state,
      {},
      batches,
      jax.random.key(7),
      schedule=loop.Schedule(
        num_steps=num_steps,
        checkpoint_every=3,
        evaluate_every=4,
        max_loss=1e3,
        decay_steps=config.decay_steps,
      ),
      put=put,
      evaluate=evaluate,
      should_stop=lambda scores: put.count == stop_at,
      checkpoints=checkpoints,
      writer=writer,
      progress=Progress("test", total=num_steps, initial=start or 0),
      meter=Meter(tokens=32, flops=1000, peak=None),
      profiler=Profiler(directory / "profile", None),
      describe_batch=lambda step: f"rows {step}",
    ), evaluated
  finally:
    writer.close()
    checkpoints.close()


def checkpoint_files(directory):
  """Files of the checkpoints with the times they were written."""
  found = (directory / "checkpoints").rglob("*")
  return {str(p): p.stat().st_mtime_ns for p in found if p.is_file()}


def equal(a, b):
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  directory = tmp_path_factory.mktemp("whole")
  result, evaluated = run(directory)
  return directory, result, evaluated


@pytest.mark.parametrize("kill_at", [0, 3, 8, 9])
def test_kill_and_resume_is_bit_for_bit(tmp_path, uninterrupted, kill_at):
  whole, expected, _ = uninterrupted
  with pytest.raises(Killed):
    run(tmp_path, kill_at=kill_at)
  result, _ = run(tmp_path)
  assert int(result.state.step) == 10
  assert equal(result.state.params, expected.state.params)
  assert equal(result.state.opt_state, expected.state.opt_state)
  assert result.scores == expected.scores
  rows = [
    [row for row in read_jsonl(d / "metrics.jsonl") if row["kind"] == "evaluation"]
    for d in (tmp_path, whole)
  ]
  assert rows[0] == rows[1]
  trained = [r for r in read_jsonl(tmp_path / "metrics.jsonl") if r["kind"] == "train"]
  assert [row["step"] for row in trained] == list(range(1, 11))


def test_a_finished_stage_does_not_train_again(tmp_path):
  first, _ = run(tmp_path)
  before = checkpoint_files(tmp_path)
  again, _ = run(tmp_path, kill_at=10)  # Would be killed at its first batch.
  assert equal(first.state.params, again.state.params)
  # While a checkpoint is written again, there is none: a kill would lose the stage.
  assert checkpoint_files(tmp_path) == before


def test_a_checkpoint_is_not_written_twice(tmp_path):
  with pytest.raises(Killed):
    run(tmp_path, kill_at=3)  # Saved at 3, and killed before another update.
  before = checkpoint_files(tmp_path)
  with pytest.raises(Killed):
    run(tmp_path, kill_at=3)
  assert before and checkpoint_files(tmp_path) == before


DAMAGES = {
  "flipped": lambda data: bytes([data[0] ^ 1]) + data[1:],
  "cut off": lambda data: data[: len(data) // 2],
  "missing": lambda data: None,
}


def damage(file, how):
  """Changes a file; returns whether it is another one now."""
  before = file.read_bytes()
  after = DAMAGES[how](before or b"x")
  file.unlink() if after is None else file.write_bytes(after)
  return after != before


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
  """A stage that was killed after its checkpoints of the updates 3 and 6."""
  directory = tmp_path_factory.mktemp("begun")
  with pytest.raises(Killed):
    run(directory, kill_at=8)
  return directory


def contents(directory):
  return {x.relative_to(directory): x.read_bytes() for x in files.tree(directory)}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_stage_goes_on_from_the_checkpoint_before_one_that_is_damaged(
  tmp_path, caplog, begun, uninterrupted, how
):
  """Whichever file of the newest it is; the end is the same bit for bit."""
  _, expected, _ = uninterrupted
  older = contents(begun / "checkpoints" / "3")
  names = list(contents(begun / "checkpoints" / "6"))
  assert len(names) > 15
  for number, name in enumerate(names):
    directory = shutil.copytree(begun, tmp_path / str(number))
    checkpoints = directory / "checkpoints"
    if not damage(checkpoints / "6" / name, how):
      continue  # Half of an empty file.
    caplog.clear()
    opened = Checkpoints(checkpoints, is_resumed=True)
    assert opened.latest() == 3
    opened.close()
    (line,) = (x.getMessage() for x in caplog.records if x.name == "undo_jax")
    assert line.startswith(f"{checkpoints / '6'}/")
    assert line.endswith("is removed; the stage goes on from update 3")
    assert [path.name for path in checkpoints.iterdir()] == ["3"]
    assert contents(checkpoints / "3") == older
  result, _ = run(directory)
  assert equal(result.state, expected.state) and result.scores == expected.scores
  assert sorted(path.name for path in checkpoints.iterdir()) == ["10", "9"]


def test_without_an_intact_checkpoint_nothing_is_removed(tmp_path, begun):
  """The file that is damaged is named, and what to do."""
  directory = shutil.copytree(begun, tmp_path / "copy")
  for step in ("3", "6"):
    damage(files.tree(directory / "checkpoints" / step / "params")[0], "flipped")
  with pytest.raises(ConfigError, match="checkpoints/6/params.*delete the directory"):
    run(directory)
  assert sorted(p.name for p in (directory / "checkpoints").iterdir()) == ["3", "6"]


def test_what_is_damaged_is_left_to_whoever_holds_the_lease(tmp_path, begun):
  directory = shutil.copytree(begun, tmp_path / "copy") / "checkpoints"
  damage(files.tree(directory / "6")[0], "missing")
  with pytest.raises(LeaseLost):
    Checkpoints(directory, is_resumed=True, may_save=lambda: False)
  assert (directory / "6").exists()


def test_evaluations_are_at_one_the_multiples_and_the_end(uninterrupted):
  assert uninterrupted[2] == [1, 4, 8, 10]


def test_stop_rule_ends_the_stage(tmp_path):
  result, evaluated = run(tmp_path, stop_at=4)
  assert (result.updates, result.reason, evaluated) == (4, "recovered", [1, 4])
  assert int(result.state.step) == 4


@pytest.mark.parametrize(
  "metric, value, message",
  [
    ("loss", np.nan, "the loss is nan"),
    ("loss", -2e3, "the loss is -2000"),
    ("gradient_norm", np.inf, "the norm of its gradient inf"),
  ],
)
def test_divergence_names_update_batch_and_checkpoint(tmp_path, metric, value, message):
  def diverge(state, frozen, batch, key):
    state, metrics = STEP(state, frozen, batch, key)
    if int(state.step) == 5:
      metrics = metrics | {metric: jnp.float32(value)}
    return state, metrics

  with pytest.raises(FloatingPointError, match=message) as error:
    run(tmp_path, step_fn=diverge)
  said = (
    "at update 5; the last good checkpoint: that of update 3. The batch was of rows 4"
  )
  assert said in str(error.value)
  assert Checkpoints(tmp_path / "checkpoints").latest() == 3


def test_sigterm_ends_the_stage_after_an_update_that_is_saved(tmp_path, uninterrupted):
  whole, expected, _ = uninterrupted
  before = signal.getsignal(signal.SIGTERM)
  preemption.listen()

  def notified(state, frozen, batch, key):
    if int(state.step) == 4:  # In the fifth update.
      os.kill(os.getpid(), signal.SIGTERM)
    return STEP(state, frozen, batch, key)

  try:
    with preemption.deferred(), pytest.raises(preemption.Preempted):
      run(tmp_path, step_fn=notified)
    preemption.listen()  # Another process would not have been told.
    saved = Checkpoints(tmp_path / "checkpoints").latest()
    assert saved in (5, 6)
    result, _ = run(tmp_path)
    with pytest.raises(SystemExit) as status:  # There is nothing to save.
      os.kill(os.getpid(), signal.SIGTERM)
      signal.sigtimedwait([], 1)  # Python handles it before its next line.
    assert status.value.code == 75
  finally:
    preemption.listen()  # Nor are the tests that follow.
    signal.signal(signal.SIGTERM, before)
  assert equal(result.state.params, expected.state.params)


def test_parameters_are_loaded_without_the_optimizer(tmp_path, uninterrupted):
  directory, result, _ = uninterrupted
  params = load_params(directory / "checkpoints", ABSTRACT.params)
  assert equal(params, result.state.params)
  with pytest.raises(FileNotFoundError, match="no complete checkpoint"):
    load_params(tmp_path / "none", ABSTRACT.params)


DECAYING = optimizers.OptimizerConfig(
  learning_rate=1e-2,
  final_learning_rate=0.0,
  num_steps=12,
  decay_steps=5,
  decay_on_recovery=True,
)


@pytest.mark.parametrize(
  ("stop_at", "end", "reason"),
  [(4, 9, "recovered"), (8, 12, "step limit"), (None, 12, "step limit")],
)
def test_a_stop_rule_begins_the_decay_with_which_a_stage_ends(
  tmp_path, stop_at, end, reason
):
  result, _ = run(tmp_path, num_steps=12, stop_at=stop_at, config=DECAYING)
  assert (result.updates, result.reason) == (end, reason)
  assert optimizers.decay_begin(result.state.opt_state) == end - 5


@pytest.mark.parametrize("kill_at", [4, 5, 7, 8])
def test_a_decay_goes_on_where_it_was_killed(tmp_path, kill_at):
  whole, _ = run(tmp_path / "whole", num_steps=12, stop_at=4, config=DECAYING)
  directory = tmp_path / "killed"
  with pytest.raises(Killed):
    run(directory, num_steps=12, stop_at=4, kill_at=kill_at, config=DECAYING)
  again, _ = run(directory, num_steps=12, stop_at=4, config=DECAYING)
  assert (again.updates, again.reason) == (whole.updates, whole.reason)
  assert equal(again.state, whole.state)
