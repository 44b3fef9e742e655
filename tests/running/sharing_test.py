"""Several drivers on one workdir: every stage is run once, and by who holds it."""

import json
import re
import shutil
import time

import pytest

from tests import children, sharing
from tests.running.variants import variant_run
from undo_jax.distributed import sharding
from undo_jax.running import sharing as sharing_lib
from undo_jax.utils import files, leases


@pytest.mark.processes
def test_two_drivers_run_each_stage_once_and_come_to_the_same(alone, tmp_path):
  drivers = [children.start(*sharing.command(tmp_path)) for _ in range(2)]
  assert [driver.wait() for driver in drivers] == [0, 0]
  said = [driver.printed()[1] for driver in drivers]
  done = [re.findall(r"\] (\w+): done\.", text) for text in said]
  assert sorted(done[0] + done[1]) == sorted(sharing.STAGES)
  begun = re.findall(r"\] (\w+): 0 of ", "".join(said))
  assert sorted(begun) == sorted(sharing.STAGES[1:])
  assert re.search(r"-\w{12}: is run by process \d+ of .* since ", "".join(said))
  sharing.assert_equal(tmp_path, alone)
  # Nothing but parameters is left of a finished stage.
  assert not list(tmp_path.glob("stages/*/checkpoints/*/rest"))


@pytest.mark.processes
def test_a_stopped_driver_leaves_its_stage_to_the_other_at_once(alone, tmp_path):
  workdir = sharing.copied(
    alone, tmp_path / "run", without=["max_ent", "relearn_max_ent"]
  )
  drivers = [children.start(*sharing.command(workdir)) for _ in range(2)]
  directory = workdir / "stages" / sharing.stage(alone, "max_ent").name
  while not (directory / "checkpoints/2").exists():
    assert all(driver.poll() is None for driver in drivers)
    time.sleep(0.01)
  content = json.loads((directory / "leases/1.json").read_text())
  drivers.sort(key=lambda driver: driver.number == content["process"])
  left, holder = drivers
  holder.kill()
  assert left.wait() == 0, left.printed()[1]
  sharing.assert_equal(workdir, alone)


@pytest.mark.usefixtures("one_device")
def test_what_is_lost_to_another_is_written_to_no_more(chain, tmp_path, monkeypatch):
  run = variant_run(tmp_path)
  (data,) = (chain[0] / "base/stages").glob("data-*")
  shutil.copytree(data, run.directories["data"])
  directory = run.directories["base"]
  now, put_batch, before = time.monotonic(), sharding.put_batch, {}

  def contents():
    # What TensorBoard reads is a file of each process's own.
    own = ("leases", "tensorboard")
    paths = (path for path in files.tree(directory) if path.parent.name not in own)
    return {path: path.read_bytes() for path in paths}

  def pause(batch, mesh, **kwargs):
    """Another process takes the stage, while this one is paused for long."""
    nonlocal now
    if not before and (directory / "metrics.jsonl").read_text().count("train") == 1:
      taken = {"holder": "someone else", "machine": "another"}
      assert files.create_json(directory / "leases/2.json", taken)
      before.update(contents())
      now += leases.EXPIRY_SECONDS
    return put_batch(batch, mesh, **kwargs)

  def finish(seconds):
    """It is the other process that finishes the stage."""
    del seconds
    assert before == contents()
    shutil.copy(chain[1] / "done.json", directory)

  monkeypatch.setattr(leases, "_own_seconds", lambda: now)
  monkeypatch.setattr(sharding, "put_batch", pause)
  monkeypatch.setattr(sharing_lib.time, "sleep", finish)
  sharing_lib.run_shared([run], [directory.name])
  assert before == {k: v for k, v in contents().items() if k.name != "done.json"}
  assert run.done("base") == files.read_record(chain[1] / "done.json")
