"""Commands in processes of their own, forked from one that has imported what they need.

The processes see one device, and share the programs that one of them has compiled.
"""

import atexit
from collections.abc import Mapping, Sequence
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
# Reads a request a line; answers a start with the child's number, and the question for
# a child with its exit status, null while it runs.
SERVER = """
import atexit, gc, json, os, sys, traceback
gc.set_threshold(100_000)  # As in conftest.py.
from undo_jax import cli
from undo_jax.checkpoints import exporting
from undo_jax.cli import launch, undo
from undo_jax.running import runs  # What commands import, once for all of them.

gc.freeze()  # What has been imported is not looked at again.
sys.path[0] = os.getcwd()  # It was "": where a command runs.

def become(command, environment, written, cwd):
  os.chdir(cwd)
  for number, path in enumerate(written, 1):
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, number)
  os.environ.update(environment)
  paths = environment.get("PYTHONPATH", "").split(os.pathsep)
  sys.path[:0] = [os.path.abspath(path) for path in paths if path]
  sys.argv = ["undo-jax", *command]
  status = 0
  try:
    cli.main()
  except SystemExit as error:
    status = error.code or 0
  except BaseException:
    traceback.print_exc()
    status = 1
  atexit._run_exitfuncs()
  sys.stdout.flush(), sys.stderr.flush()
  os._exit(status)

for line in sys.stdin:
  kind, *request = json.loads(line)
  if kind == "start":
    answer = os.fork()
    if not answer:
      become(*request)
  else:
    number, status = os.waitpid(request[0], os.WNOHANG)
    answer = os.waitstatus_to_exitcode(status) if number else None
  print(json.dumps(answer), flush=True)
"""


@functools.cache
def _server() -> subprocess.Popen[str]:
  environment = {
    "JAX_NUM_CPU_DEVICES": "1",
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": os.environ["TESTS_COMPILED"],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  server = subprocess.Popen(
    [sys.executable, "-c", SERVER],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env=os.environ | environment,
  )
  atexit.register(server.communicate)  # It ends with its input, and is waited for.
  return server


def _ask(*request: object) -> int | None:
  server = _server()
  assert server.stdin and server.stdout
  server.stdin.write(json.dumps(request) + "\n")
  server.stdin.flush()
  return json.loads(server.stdout.readline())


class Child:
  """A command that runs, as of subprocess.Popen."""

  def __init__(
    self,
    command: Sequence[str],
    environment: Mapping[str, str],
    cwd: str | os.PathLike[str] = ROOT,
  ):
    self._written = [tempfile.NamedTemporaryFile() for _ in range(2)]
    names = [file.name for file in self._written]
    started = _ask("start", [*command], dict(environment), names, str(cwd))
    assert started
    self.number: int = started  # Of the process.
    self._status: int | None = None

  def poll(self) -> int | None:
    """Return the exit status, None while it runs."""
    if self._status is None:
      self._status = _ask("poll", self.number)
    return self._status

  def wait(self) -> int:
    """Return the exit status once it has ended."""
    while (status := self.poll()) is None:
      time.sleep(0.02)
    return status

  def kill(self) -> None:
    """Kill it, unless it has ended."""
    if self.poll() is None:
      os.kill(self.number, signal.SIGKILL)

  def terminate(self) -> None:
    """Ask it to end, unless it has."""
    if self.poll() is None:
      os.kill(self.number, signal.SIGTERM)

  def printed(self) -> tuple[str, str]:
    """Return stdout and stderr so far."""
    out, error = (pathlib.Path(x.name).read_text() for x in self._written)
    return out, error


def start(
  *command: str, cwd: str | os.PathLike[str] = ROOT, **environment: str
) -> Child:
  """Start a command of `undo-jax` in a directory."""
  return Child(command, environment, cwd)


def run(
  *command: str, cwd: str | os.PathLike[str] = ROOT, **environment: str
) -> tuple[int, str, str]:
  """Return a command's exit status, stdout and stderr."""
  child = start(*command, cwd=cwd, **environment)
  status = child.wait()
  return status, *child.printed()
