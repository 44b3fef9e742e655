"""Leases: one holder at a time, whoever is paused, killed or late."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from undo_jax.utils import files, leases

# Between signs of life, and until a lease without any is over.
BEAT, EXPIRY = 0.1, 0.6
START = f"""
import os, pathlib, sys, time
from undo_jax.utils.leases import Lease
directory = pathlib.Path(sys.argv[1])
def lease():
  return Lease(directory / "leases", beat_seconds={BEAT}, expiry_seconds={EXPIRY})
"""
# Each of eight processes adds one ten times, in a way that loses what two do at once.
COUNT = (
  START
  + """
children = []
for _ in range(8):
  if not (child := os.fork()):
    for _ in range(10):
      mine = lease()
      while not mine.take():
        time.sleep(0.001)
      count = int((directory / "count").read_text())
      time.sleep(0.002)
      (directory / "count").write_text(str(count + 1))
      mine.release()
    os._exit(0)
  children.append(child)
print(*[os.waitpid(child, 0)[1] for child in children])
"""
)
# Takes the lease and writes as long as it may.
HOLD = (
  START
  + """
mine = lease()
assert mine.take()
print("taken", flush=True)
# When it asks, not when it writes: it may be paused between them.
end = time.monotonic() + 15
while (now := time.monotonic()) < end and mine.is_held():
  with open(directory / "written", "a") as file:
    file.write(f"{now}\\n")
  time.sleep(0.01)
print("lost", flush=True)
"""
)
# A process that holds it is killed, whose child lives on with all open files.
LEAVE_A_CHILD = (
  START
  + """
mine = lease()
assert mine.take()
if not os.fork():
  sys.stdin.read()
  os._exit(0)
print("taken", flush=True)
sys.stdin.read()
"""
)


def start(code, directory):
  return subprocess.Popen(
    [sys.executable, "-c", code, str(directory)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )


def line(process):
  assert process.stdout
  return process.stdout.readline()


def lease(directory, **changes):
  times = {"beat_seconds": BEAT, "expiry_seconds": EXPIRY} | changes
  return leases.Lease(directory / "leases", **times)


def wait_until(is_so, seconds=20.0):
  end = time.monotonic() + seconds
  while not is_so():
    assert time.monotonic() < end
    time.sleep(0.005)


@pytest.mark.processes
def test_one_of_many_processes_holds_it_at_a_time(tmp_path):
  (tmp_path / "count").write_text("0")
  with start(COUNT, tmp_path) as process:
    assert process.communicate()[0].split() == ["0"] * 8
  assert (tmp_path / "count").read_text() == "80"
  numbers = sorted(int(p.stem) for p in (tmp_path / "leases").glob("*.json"))
  assert numbers == list(range(1, 81))


@pytest.mark.processes
def test_a_paused_holder_loses_it_to_one_of_those_who_wait_and_writes_no_more(tmp_path):
  with start(HOLD, tmp_path) as process:
    assert line(process) == "taken\n"
    others = [lease(tmp_path) for _ in range(4)]
    assert not any(other.take() for other in others)
    assert f"process {process.pid} of " in others[0].holder
    time.sleep(2 * EXPIRY)
    assert not any(other.take() for other in others)  # It gives signs of life.
    process.send_signal(signal.SIGSTOP)
    paused, taken = time.monotonic(), []

    def wait(other):
      while not taken and not other.take() and time.monotonic() < paused + 10:
        time.sleep(0.01)
      if other.is_held():
        taken.append((other, time.monotonic()))

    threads = [threading.Thread(target=wait, args=(other,)) for other in others]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    process.send_signal(signal.SIGCONT)
    ((winner, when),) = taken
    assert when - paused > EXPIRY - BEAT  # Not before: it could have come back.
    assert line(process) == "lost\n"
    assert winner.is_held(ask=True)
    winner.release()
  written = [float(x) for x in (tmp_path / "written").read_text().split()]
  assert written and max(written) < when


@pytest.mark.processes
def test_a_killed_process_s_lease_is_over_at_once_though_its_children_live(tmp_path):
  with start(LEAVE_A_CHILD, tmp_path) as process:
    assert line(process) == "taken\n"
    mine = lease(tmp_path, expiry_seconds=3600.0)
    assert not mine.take()
    process.kill()
    wait_until(mine.take, seconds=5.0)
    mine.release()


def test_a_released_lease_is_free_at_once_and_tells_who_had_it(tmp_path):
  one, other = (lease(tmp_path, expiry_seconds=3600.0) for _ in range(2))
  assert one.take() and one.take() and not other.take()
  one.release()
  assert not one.is_held() and other.take() and not one.take()
  assert f"process {os.getpid()} of " in one.holder
  other.release()


def test_a_number_that_another_process_has_by_now_is_no_holder(tmp_path):
  mine = lease(tmp_path, expiry_seconds=3600.0)
  assert mine.take()
  path = tmp_path / "leases" / "1.json"
  content = json.loads(path.read_text())
  mine.release()
  for changes, is_taken in (
    ({}, True),
    ({"started": "1"}, False),  # This process was started later.
    ({"machine": "another", "process": 2**22 + 1}, True),  # Not for us to know.
    ({"process": 2**22 + 1}, False),  # Above any number that Linux gives.
    ({"is_over": True}, False),
  ):
    path.write_text(json.dumps(content | changes))
    assert lease(tmp_path, expiry_seconds=3600.0).is_taken() == is_taken, changes
  path.write_text("")  # Being written.
  assert lease(tmp_path).is_taken()


def test_an_observer_that_was_paused_itself_has_not_watched(tmp_path, monkeypatch):
  one, other = (
    lease(tmp_path, beat_seconds=100.0, expiry_seconds=600.0) for _ in range(2)
  )
  assert one.take()
  now = time.monotonic()
  monkeypatch.setattr(leases.time, "monotonic", lambda: now)
  assert not other.take()
  for _ in range(5):
    now += 10_000.0
    assert not other.take()
  now += 10_000.0
  assert other.take()  # Six looks of at most a beat each.
  assert not one.is_held(ask=True)
  other.release()


def test_a_holder_whose_files_are_gone_stops(tmp_path):
  mine = lease(tmp_path)
  assert mine.take()
  (tmp_path / "leases" / "1.json").unlink()
  wait_until(lambda: not mine.is_held())
  assert not list((tmp_path / "leases").iterdir())


def test_a_disk_that_is_away_for_a_while_loses_no_lease(tmp_path, monkeypatch):
  mine = lease(tmp_path, expiry_seconds=1.0)
  assert mine.take()

  def fail(*_):
    raise OSError("away")

  with monkeypatch.context() as patch:
    patch.setattr(files, "write_bytes", fail)
    assert mine.is_held(ask=True)
    wait_until(lambda: not mine.is_held())  # By then another may have it.
  mine.release()


def test_a_file_is_created_by_one_of_many_and_whole(tmp_path, monkeypatch):
  path = tmp_path / "made" / "x"
  texts = [f"{i}".encode() * 100_000 for i in range(8)]
  results = {}

  def create(text):
    results[text] = files.create(path, text)

  threads = [threading.Thread(target=create, args=(text,)) for text in texts]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  (winner,) = (text for text in texts if results[text])
  assert path.read_bytes() == winner
  assert [p.name for p in path.parent.iterdir()] == ["x"]

  def refuse(*_):
    raise PermissionError("no hard links here")

  monkeypatch.setattr(os, "link", refuse)
  assert files.create(pathlib.Path(tmp_path / "y"), b"y")
  assert not files.create(tmp_path / "y", b"z")
  assert (tmp_path / "y").read_bytes() == b"y"
