"""A stage that is killed and resumed ends as one that was not, bit for bit."""

import errno
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
from undo_jax.training import checkpointing, loop, optimizers
from undo_jax.training.checkpointing import Checkpoints, load_params
from undo_jax.training.meter import Meter
from undo_jax.training.profiling import Profiler
from undo_jax.training.state import create
from undo_jax.training.step import make_step, repeat
from undo_jax.training.writers import JsonlWriter, Progress, read_jsonl
from undo_jax.utils import files
from undo_jax.utils.leases import LeaseLost
from undo_jax.utils.types import ConfigError

VOCABULARY, WIDTH = 16, 8
PLAIN = optimizers.OptimizerConfig(learning_rate=1e-2, num_steps=10)


def apply(params, tokens):
  """Logit of each token alone: the loop knows no model, and this one is small."""
  hidden = jnp.tanh(params["embedding"][tokens] @ params["layer"]["kernel"])
  return Output(hidden @ params["embedding"].T, {})


@functools.cache
def made(config):
  """Return the function of a fresh state, and the step."""
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
  return fresh, jax.jit(step, donate_argnums=0), jax.jit(repeat(step), donate_argnums=0)


fresh, STEP, _ = made(PLAIN)
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
  directory,
  *,
  num_steps=10,
  kill_at=None,
  stop_at=None,
  step_fn=None,
  config=PLAIN,
  at_once=None,
):
  """Run a stage as the runner does, from its newest checkpoint."""
  fresh, step, steps = made(config)
  step, steps = step_fn or step, step_fn or steps
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

  def put_several(batches):
    for batch in batches:
      put(batch)
    if at_once is None:
      return batches[0]
    full = [*batches, *[batches[-1]] * (at_once - len(batches))]
    return jax.tree.map(lambda *x: np.stack(x), *full)

  def evaluate(params):
    evaluated.append(put.count)
    return {"retain": float(np.sum(np.asarray(params["embedding"]) ** 2))}

  writer = JsonlWriter(directory / "metrics.jsonl", resume_step=start or 0)
  meter = Meter(tokens=32, flops=1000, peak=None)
  try:
    training = loop.begin(
      step,
      state,
      {},
      jax.random.key(7),
      schedule=loop.Schedule(
        num_steps=num_steps,
        checkpoint_every=3,
        evaluate_every=4,
        max_loss=1e3,
        decay_steps=config.decay_steps,
      ),
      evaluate=evaluate,
      should_stop=lambda scores: put.count == stop_at,
      checkpoints=checkpoints,
      writer=writer,
      progress=Progress("test", total=num_steps, initial=start or 0),
      meter=meter,
      profiler=Profiler(directory / "profile", None),
      describe_batch=lambda step: f"rows {step}",
      several=at_once and loop.Several(at_once, steps),
    )
    return loop.train(training, batches, put=put_several, meter=meter), evaluated
  finally:
    writer.close()
    checkpoints.close()


def checkpoint_files(directory):
  """File of the checkpoints with the times they were written."""
  paths = (directory / "checkpoints").rglob("*")
  return {str(p): p.stat().st_mtime_ns for p in paths if p.is_file()}


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


def test_rows_tell_what_the_save_before_took(uninterrupted):
  rows = read_jsonl(uninterrupted[0] / "metrics.jsonl")
  saves = [row for row in rows if row["kind"] == "checkpoint"]
  assert [row["step"] for row in saves] == [3, 6, 9, 10]
  assert "written_seconds" not in saves[0]
  assert all(row["written_seconds"] > 0 for row in saves[1:])


def train_rows(directory):
  rows = [r for r in read_jsonl(directory / "metrics.jsonl") if r["kind"] == "train"]
  return [[row[name] for name in ("step", "loss", "gradient_norm")] for row in rows]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_several_updates_a_dispatch_are_those_one_by_one(
  tmp_path, uninterrupted, at_once
):
  """With checkpoints after 3, 6, 9 and 10 updates and scores after 1, 4, 8 and 10."""
  whole, expected, evaluated = uninterrupted
  result, scored = run(tmp_path, at_once=at_once)
  assert scored == evaluated and result.updates == 10
  leaves = jax.tree.leaves(result.state), jax.tree.leaves(expected.state)
  for a, b in zip(*leaves, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(train_rows(tmp_path), train_rows(whole), rtol=1e-5)
  assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"9", "10"}


def test_several_updates_a_dispatch_resume_bit_for_bit(tmp_path):
  """Also after a SIGTERM, where a dispatch would have gone on."""
  expected, _ = run(tmp_path / "whole", at_once=3)
  with pytest.raises(Killed):
    run(tmp_path / "killed", at_once=3, kill_at=8)
  before = signal.getsignal(signal.SIGTERM)
  preemption.listen()
  try:
    with preemption.deferred(), pytest.raises(preemption.Preempted):
      os.kill(os.getpid(), signal.SIGTERM)
      run(tmp_path / "killed", at_once=3)
  finally:
    preemption.listen()
    signal.signal(signal.SIGTERM, before)
  again = Checkpoints(tmp_path / "killed" / "checkpoints")
  assert again.latest() == 9  # It was told while 7 and 8 ran, and 9 had begun.
  again.close()
  result, _ = run(tmp_path / "killed", at_once=3)
  assert equal(result.state, expected.state) and result.scores == expected.scores


def test_a_dispatch_names_the_update_that_diverged(tmp_path):
  """The updates 7 and 8 are one."""

  def diverge(state, frozen, batches, key, count):
    first = int(state.step) + 1
    state, metrics = made(PLAIN)[2](state, frozen, batches, key, count)
    loss = metrics["loss"]
    if first <= 7 < first + count:
      loss = loss.at[7 - first].set(np.nan)
    return state, metrics | {"loss": loss}

  said = "nan .*at update 7; .*that of update 6. The batch was of rows 6"
  with pytest.raises(FloatingPointError, match=said):
    run(tmp_path, at_once=5, step_fn=diverge)


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
  """Change a file; return whether it is another one now."""
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


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_save_that_failed_ends_the_stage_at_the_next_or_the_end(
  tmp_path, monkeypatch, number
):
  """Those are of the updates 3, 6, 9 and 10."""
  write, written = checkpointing._write_checksums, []

  def fail(directory):
    written.append(int(directory.name))
    if len(written) == number + 1:
      raise OSError(errno.ENOSPC, "no room")
    write(directory)

  monkeypatch.setattr(checkpointing, "_write_checksums", fail)
  with pytest.raises(OSError, match="no room"):
    run(tmp_path)
  assert written == [3, 6, 9, 10][: number + 1]


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


def test_data_that_end_early_are_an_error_and_no_result():
  def training():
    while True:
      yield 1

  meter = Meter(tokens=32, flops=1000, peak=None)
  with pytest.raises(StopIteration):
    loop.train(training(), iter([0, 1]), put=lambda batches: batches, meter=meter)
