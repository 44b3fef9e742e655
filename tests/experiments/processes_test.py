"""Several processes over loopback: what one gives; killed, told to stop, resized.

One run is started four times: by two processes, one of which is killed in the stage
max_ent; by four, which go on from its checkpoint before the last, since a disk has
damaged that, until one gets a SIGTERM; by two on another mesh, one of which is killed
in the attack; and by one, which finishes it.
"""

import json
import re
import socket
import time

import jax
import numpy as np
import pytest

from tests import children, minimal
from undo_jax import testing
from undo_jax.plan import stages, translation
from undo_jax.plan.config import parse
from undo_jax.running import programs
from undo_jax.training.checkpointing import load_params
from undo_jax.utils import files

pytestmark = pytest.mark.processes
CHANGES = {
  "replicas_at_once": None,  # Which spreads over mesh.replica.
  "models.max_ent.optimizer.num_steps": 8,
  "model.num_layers": 1,  # Compiling takes longest.
  "models.rmu.options.layers": (0,),
  "attacks.relearn.num_steps": 8,
  # Where a gradient is near zero, Adam makes steps of this size of its rounding.
  "attacks.relearn.learning_rates": (1e-4, 1e-3),
}
TRAINED = ("base", "max_ent", "undo_alpha_0.5")
MODEL = TRAINED[-1]
# Parameters over processes; over half of them; members of a population over processes.
MESHES = ({"mesh.fsdp": 2}, {"mesh.fsdp": 2}, {"mesh.replica": 2})


def start(workdir, count, **changes):
  """Start the processes of a run, each of one device; one is told of no others."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  command = [
    *("relearn", f"--models={MODEL}", f"--workdir={workdir}"),
    *minimal.flags(**(CHANGES | changes)),
  ]
  if count == 1:
    return [children.start(*command)]
  command += [f"--coordinator_address={address}", f"--num_processes={count}"]
  return [children.start(*command, f"--process_id={x}") for x in range(count)]


def finish(running):
  """Return the exit status and what was said of each process."""
  status = [process.wait() for process in running]
  return status, [process.printed()[1] for process in running]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The same run by one process."""
  workdir = tmp_path_factory.mktemp("whole")
  status, said = finish(start(workdir, 1))
  assert status == [0], said
  return workdir


def wait_for(is_there, running):
  """Wait until something is there; fails where a process has ended before."""
  while not is_there():
    if any(process.poll() is not None for process in running):
      pytest.fail("\n".join(process.printed()[1] for process in running))
    time.sleep(0.02)


def kill_in(stage, workdir, **changes):
  """Kill two processes after the stage's second checkpoint; return what one said."""
  killed = start(workdir, 2, **changes)
  checkpoints = f"stages/{stage}-*/checkpoints/[246]"
  wait_for(lambda: len(list(workdir.glob(checkpoints))) > 1, killed)
  for process in reversed(killed):  # As a scheduler does, which restarts all of a job.
    process.kill()
    process.wait()
  return killed[0].printed()[1]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
  """The run by several processes; its workdir, what the first of later starts said."""
  workdir = tmp_path_factory.mktemp("interrupted")
  kill_in("max_ent", workdir, **MESHES[0])
  damaged = sorted(workdir.glob("stages/max_ent-*/checkpoints/[2468]"))[-1]
  next((damaged / "rest").rglob("d/*")).write_bytes(b"")

  stopped = start(workdir, 4, **MESHES[1])
  wait_for(lambda: "max_ent: resuming" in stopped[0].printed()[1], stopped)
  stopped[3].terminate()
  told_status, told_said = finish(stopped)

  resumed = kill_in(f"relearn_{MODEL}", workdir, **MESHES[2])
  status, said = finish(start(workdir, 1))
  assert status == [0], said
  first = damaged, told_status, told_said[0]
  return workdir, first, (resumed, said[0])


def rows(workdir, name, kind):
  (path,) = workdir.glob(f"stages/{name}-*/metrics.jsonl")
  records = [json.loads(line) for line in path.read_text().splitlines()]
  return [row for row in records if row["kind"] == kind]


def outcome(workdir, name):
  (path,) = workdir.glob(f"stages/{name}-*/done.json")
  return files.read_record(path)


def test_a_killed_job_goes_on_from_its_intact_checkpoint_with_other_processes(
  interrupted,
):
  _, (damaged, _, said), _ = interrupted
  assert f"{damaged}/" in said and "is not as it was written and is removed" in said
  step = int(damaged.name) - 2
  assert f"goes on from update {step}\n" in said
  assert f"max_ent: resuming after update {step}\n" in said, said


def test_an_attack_killed_in_two_processes_is_finished_by_one(interrupted):
  _, _, (_, last) = interrupted
  assert re.search(f"relearn_{MODEL}: resuming after update [246]", last), last


def test_a_sigterm_to_one_process_saves_and_ends_all(interrupted):
  _, (_, status, said), (resumed, _) = interrupted
  assert status == [75] * 4, said
  first = re.search(r"max_ent: resuming after update (\d+)", said)[1]
  step = re.search(r"stopped by SIGTERM after update (\d+); ", said)[1]
  assert f"max_ent: resuming after update {step}" in resumed
  assert int(first) < int(step)


@pytest.mark.parametrize("name", TRAINED)
def test_losses_are_those_of_one_process(whole, interrupted, name):
  one, several = (rows(w, name, "train") for w in (whole, interrupted[0]))
  assert [row["step"] for row in several] == [row["step"] for row in one]
  for metric in set(one[0]) - {"kind"}:
    if metric not in MEASURED:
      values = [[row[metric] for row in rows_of] for rows_of in (one, several)]
      assert values[1] == pytest.approx(values[0], rel=1e-4), metric


MEASURED = {
  "seconds",
  "tokens_per_second",
  "share_of_peak",
  "input_seconds",
  "memory_bytes",
}


def abstract_state(name):
  """What a stage's checkpoint holds, on one device."""
  plan = translation.plan(parse(minimal.config(**CHANGES)), 0)
  (stage,) = [stage for stage in plan if stage.name == name]
  mesh = testing.mesh(1)
  if isinstance(stage, stages.TrainStage):
    return programs.training_of(stage, mesh).abstract
  names = ("addition_equation", "division_equation")
  return programs.attack_of(stage, mesh, names, 8, None).abstract


@pytest.mark.parametrize("name", (*TRAINED, f"relearn_{MODEL}"))
def test_one_process_restores_what_several_saved(whole, interrupted, name):
  assert outcome(whole, name) == outcome(interrupted[0], name)
  abstract, both = abstract_state(name), []
  for workdir in (whole, interrupted[0]):
    (directory,) = workdir.glob(f"stages/{name}-*/checkpoints")
    both.append(load_params(directory, abstract.params))
  for x, y in zip(*map(jax.tree.leaves, both), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


def test_every_stage_was_measured(interrupted):
  workdir, *_ = interrupted
  for name in TRAINED:
    for row in rows(workdir, name, "train"):
      assert set(row) >= MEASURED and all(row[key] > 0 for key in MEASURED)
    assert list(workdir.glob(f"stages/{name}-*/tensorboard/events.*"))
