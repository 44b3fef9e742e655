"""Stages that go to workers, by an engine whose workers are made up."""

import collections

import pytest

from undo_jax.distributed import preemption
from undo_jax.engines.engine import Ended
from undo_jax.running import dispatch
from undo_jax.running.run import Run
from undo_jax.utils import files
from undo_jax.utils.errors import RunFailed
from undo_jax.utils.leases import Lease

DONE = Ended(0, "")
GONE = Ended(-9, "1/2 updates")
SAVED = Ended(75, "stopped by SIGTERM")


class Engine:
  """Ends workers as it is told, by stage: by an Ended, or by None never."""

  def __init__(self, run, **ends):
    self.run, self.ends = run, collections.defaultdict(lambda: [DONE], ends)
    self.started, self.running, self.most, self.is_closed = [], [], 0, False

  def start(self, name, arguments):
    assert arguments == ["undo", "--config=c", f"--stages={name}"]
    stage = name.rpartition("-")[0]
    for other in self.run.stages:
      if other.name == stage:
        assert all(self.run.done(x) for x in other.inputs.values())
    self.started.append(stage)
    self.running.append(stage)
    self.most = max(self.most, len(self.running))
    ends = self.ends[stage]
    return Worker(self, stage, ends.pop(0) if len(ends) > 1 else ends[0])

  def close(self):
    self.is_closed = True


class Worker:
  def __init__(self, engine, stage, end):
    self.engine, self.stage, self.end, self.polls = engine, stage, end, 0

  def poll(self):
    self.polls += 1
    if self.polls < 3 or self.end is None:
      return None
    self.engine.running.remove(self.stage)
    if self.end is DONE:
      directory = self.engine.run.directories[self.stage]
      files.write_record(directory / "done.json", {"updates": 1})
    return self.end

  def terminate(self):
    self.end = self.end or SAVED


@pytest.fixture
def run(tmp_path, monkeypatch):
  from tests.running.variants import variant_run

  monkeypatch.setattr(dispatch, "POLL_SECONDS", 0.001)
  variant: Run = variant_run(tmp_path)
  assert [stage.name for stage in variant.stages] == STAGES
  return variant


STAGES = ["data", "base", "max_ent_sam", "undo_alpha_0.5", "relearn_undo_alpha_0.5"]


def go(run, engine, num_workers=2, num_restarts=2):
  dispatch.run_elsewhere(
    [run],
    engine,
    ["undo", "--config=c"],
    num_workers=num_workers,
    num_restarts=num_restarts,
  )


def test_each_stage_goes_to_one_worker_when_what_it_reads_is_finished(run):
  engine = Engine(run)
  go(run, engine)
  assert engine.started == STAGES and engine.is_closed


def test_a_worker_that_is_gone_is_started_again_and_one_that_saved_too(run):
  engine = Engine(run, base=[GONE, SAVED, SAVED, Ended(None, "node died"), DONE])
  go(run, engine)
  assert engine.started.count("base") == 5 and engine.started.count("data") == 1


def test_a_stage_that_ends_its_workers_again_and_again_ends_the_run(run):
  engine = Engine(run, base=[GONE])
  with pytest.raises(RunFailed, match=r"base: .* 3 of 3; .* signal 9 .*1/2 up") as got:
    go(run, engine)
  assert got.value.status == 1 and engine.started == ["data", *["base"] * 3]
  # An exit without a result, and a traceback, are no better.
  for end in (Ended(0, "nothing"), Ended(1, "RuntimeError: nothing")):
    engine = Engine(run, base=[end])
    with pytest.raises(RunFailed, match="nothing"):
      go(run, engine, num_restarts=0)
    assert engine.started == ["base"]


@pytest.mark.parametrize("status", [1, 2])
def test_a_wrong_config_or_divergence_ends_the_run_by_its_line(run, status):
  end = Ended(status, "error: the loss is nan")
  engine = Engine(run, max_ent_sam=[end])
  with pytest.raises(RunFailed, match="^max_ent_sam: the loss is nan$") as got:
    go(run, engine)
  assert got.value.status == status and engine.is_closed
  assert engine.started == STAGES[:3]


def test_sigterm_is_passed_on_and_waited_for(run, monkeypatch):
  engine = Engine(run, base=[None])
  monkeypatch.setattr(preemption, "ask", lambda: lambda: "base" in engine.started)
  with pytest.raises(preemption.Preempted, match="all workers have saved"):
    go(run, engine)
  assert engine.started == ["data", "base"] and not engine.running


def test_what_another_driver_runs_is_left_to_it(run, monkeypatch, caplog):
  other = Lease(run.directories["base"] / "leases")
  assert other.take()
  engine, waits = Engine(run), []

  def wait(seconds):
    """The other driver finishes the stage in a while."""
    del seconds
    waits.append(list(engine.started))
    if len(waits) == 10:
      files.write_record(run.directories["base"] / "done.json", {"updates": 1})
      other.release()

  monkeypatch.setattr(dispatch.time, "sleep", wait)
  with caplog.at_level("INFO", logger="undo_jax"):
    go(run, engine)
  assert waits[8] == ["data"]
  assert engine.started == [name for name in STAGES if name != "base"]
  assert caplog.text.count("is run by process") == 1
