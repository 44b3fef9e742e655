"""Command lines run in children of one process, whose flags are theirs alone."""

import json
import os
import pathlib
import subprocess
import sys

import experiments

ROOT = pathlib.Path(experiments.__file__).parents[1]
# Runs each command line of sys.argv[1] in a child, whose flags are its alone.
FORKS = """
import json, os, sys, tempfile
from undo_jax import cli
from undo_jax.checkpoints import exporting
from undo_jax.cli import launch
from undo_jax.running import runs  # What commands import, once for all of them.
done = []
for argv in json.loads(sys.argv[1]):
  written = [tempfile.TemporaryFile() for _ in range(2)]
  child = os.fork()
  if not child:
    for number, file in enumerate(written, 1):
      os.dup2(file.fileno(), number)
    sys.argv = ["undo-jax", *argv]
    try:
      cli.main()
    except SystemExit as error:
      status = error.code or 0
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)
  status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  texts = []
  for file in written:
    file.seek(0)
    texts.append(file.read().decode())
  done.append((status, *texts))
print(json.dumps(done))
"""


def run(command_lines, environment=None):
  """Returns the exit status, stdout and stderr of each command line."""
  done = subprocess.run(
    [sys.executable, "-c", FORKS, json.dumps(command_lines)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=environment or os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)
