"""Stages as Ray tasks: workers and the driver are killed, and nothing is lost."""

import os
import pathlib
import re
import signal
import socket
import time

import pytest

from tests import children, sharing
from undo_jax.engines import ray_tasks
from undo_jax.engines.engine import Settings
from undo_jax.utils.errors import ConfigError

pytest.importorskip("ray")
pytestmark = pytest.mark.processes
FLAGS = ("--engine=ray", "--num_workers=2")


def test_killed_workers_and_a_killed_driver_lose_nothing(alone, tmp_path):
  lost = ("max_ent", "relearn_base", "relearn_max_ent")
  workdir = sharing.copied(alone, tmp_path / "run", without=lost)
  driver = children.start(*sharing.command(workdir, *FLAGS))
  killed = sharing.wait_for_holder(workdir, alone, "max_ent", driver)
  os.kill(killed, signal.SIGKILL)
  sharing.wait_for_holder(workdir, alone, "max_ent", driver, other_than=[killed])
  last = sharing.wait_for_holder(workdir, alone, "relearn_max_ent", driver)
  driver.kill()
  said = driver.printed()[1]
  assert "max_ent: its worker was ended by signal 9" in said
  assert "it is started again (1 of 2)" in said
  assert len(re.findall("goes to a worker", said)) == 4

  again = children.start(*sharing.command(workdir, *FLAGS))
  assert again.wait() == 0, again.printed()[1]
  with pytest.raises(ProcessLookupError):  # It ended with the driver's Ray.
    os.kill(last, 0)
  sharing.assert_equal(workdir, alone)


def test_an_address_that_does_not_answer_is_one_line(tmp_path):
  begun = time.monotonic()
  status, _, said = children.run(
    *sharing.command(tmp_path / "run", "--engine=ray", "--ray_address=localhost:1")
  )
  (line,) = said.strip().splitlines()
  assert status == 2 and line.startswith("error: --ray_address=localhost:1: expected")
  assert not list(tmp_path.iterdir()) and time.monotonic() - begun < 30


def test_what_answers_but_is_no_ray_is_given_up(monkeypatch):
  monkeypatch.setattr(ray_tasks, "ADDRESS_SECONDS", 2.0)
  with socket.socket() as other:
    other.bind(("localhost", 0))
    other.listen()
    address = f"localhost:{other.getsockname()[1]}"
    settings = Settings(workdir=pathlib.Path("x"), num_workers=1, ray_address=address)
    with pytest.raises(ConfigError, match="expected a Ray cluster to answer there"):
      ray_tasks.check(settings)
