"""A command in a process of its own: its end, its last line, signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from undo_jax.engines import worker

# A command that saves at SIGTERM, into the file that is its argument.
SAVES = """
import pathlib, signal, sys, time
from undo_jax.engines import worker
def save(*_):
  pathlib.Path(sys.argv[1]).write_text("saved")
  sys.exit(75)
signal.signal(signal.SIGTERM, save)
worker.end_with_parent()
print("up", file=sys.stderr, flush=True)
for _ in range(300):
  time.sleep(0.1)
"""


@pytest.mark.processes
@pytest.mark.parametrize(
  "code, status, line",
  [
    ("print('error: no', file=sys.stderr); print(); sys.exit(2)", 2, "error: no"),
    ("print('a\\nb\\n\\n', file=sys.stderr)", 0, "b"),
    ("os.kill(os.getpid(), 9)", -9, ""),
    ("sys.exit(len(sys.argv) - 3)", 0, ""),  # "-c" and two arguments.
  ],
)
def test_the_status_and_the_last_line_come_back(monkeypatch, code, status, line):
  monkeypatch.setattr(worker, "_MAIN", f"import os, sys; {code}")
  assert json.loads(worker.run('["a", "b c"]')) == {"status": status, "line": line}


@pytest.mark.processes
def test_sigterm_is_passed_on_and_its_answer_awaited(monkeypatch, tmp_path):
  monkeypatch.setattr(worker, "_MAIN", SAVES)
  before = signal.getsignal(signal.SIGTERM)
  forward, signalled = worker._Said.forward, []

  def tell(self, *, seconds):
    forward(self, seconds=seconds)
    if self.last == "up" and not signalled:
      signalled.append(True)
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(worker._Said, "forward", tell)
  ended = json.loads(worker.run(json.dumps([str(tmp_path / "x")])))
  assert ended["status"] == 75 and (tmp_path / "x").read_text() == "saved"
  assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.processes
def test_a_command_saves_and_ends_when_what_started_it_is_killed(tmp_path):
  code = (
    "import json, sys; from undo_jax.engines import worker; "
    "worker._MAIN = sys.argv[1]; worker.run(json.dumps([sys.argv[2]]))"
  )
  command = [sys.executable, "-c", code, SAVES, str(tmp_path / "x")]
  with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
    assert process.stderr
    assert process.stderr.readline() == "up\n"
    process.kill()
  end = time.monotonic() + 20
  while not (tmp_path / "x").exists():
    assert time.monotonic() < end
    time.sleep(0.02)


def test_a_host_tells_an_address_with_a_free_port():
  place = json.loads(worker.where())
  assert place["address"].count(".") == 3 and 1024 <= place["port"] < 2**16
