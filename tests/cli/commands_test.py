"""The commands: their list, their pages of help, how they end."""

import ast
import importlib
import json
import os
import pathlib
import subprocess
import sys

from absl import flags
import pytest

import experiments
from undo_jax import cli

ROOT = pathlib.Path(experiments.__file__).parents[1]
MAINS = sorted(
  path.stem
  for path in pathlib.Path(experiments.__file__).parent.glob("*.py")
  if path.stem != "__init__" and not path.stem.startswith("routing_")
)
# Runs each command line of sys.argv[1] in a child, whose flags are its alone.
FORKS = """
import json, os, sys, tempfile
from undo_jax import cli
from undo_jax.cli import launch
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
WRONG = {
  "--config=arithmetic:tiny": "--workdir must have a value",
  "--config=arithmetic:tiny --workdr=x": "'workdr'. Did you mean: workdir",
  "--config=arithmetic:tiny --workdir=x --config.lr=1": "config has no field lr",
  "--config=arithmetic:tiny --workdir=x --config.seeds=None": "config.seeds: expected",
  "--config=nothing --workdir=x": "error: --config: expected a file or one",
}


def run(command_lines):
  """Returns the exit status, stdout and stderr of each command line."""
  done = subprocess.run(
    [sys.executable, "-c", FORKS, json.dumps(command_lines)],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.parametrize("name", MAINS)
def test_a_main_is_its_command(name):
  assert name in cli.COMMANDS
  path = ROOT / "experiments" / f"{name}.py"
  main, command = (ast.parse(p.read_text()) for p in (path, module_path(name)))
  summary = (ast.get_docstring(command) or "").splitlines()[0]
  assert ast.get_docstring(main) == summary
  assert f'cli.run("{name}")' in path.read_text()
  assert len(path.read_text().splitlines()) <= 6


def module_path(name):
  return pathlib.Path(cli.__file__).with_name(f"{name}.py")


def test_the_page_has_a_line_for_each_command(monkeypatch, capsys):
  for arguments in ([], ["--help"], ["help"]):
    monkeypatch.setattr(sys, "argv", ["undo-jax", *arguments])
    cli.main()
    page = capsys.readouterr().out
    for name in cli.COMMANDS:
      (line,) = (x for x in page.splitlines() if x.startswith(f"  {name} "))
      assert len(line.split()) > 4


def test_a_command_nobody_knows_is_one_line(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["undo-jax", "relern"])
  with pytest.raises(SystemExit) as stopped:
    cli.main()
  assert stopped.value.code == 2
  expected = "error: no command 'relern'; did you mean relearn?\n"
  assert capsys.readouterr().err == expected


def test_no_flag_is_defined_before_a_command_is_chosen():
  for name in cli.COMMANDS:
    module = importlib.import_module(f"undo_jax.cli.{name}")
    assert callable(module.define)
  modules = flags.FLAGS.flags_by_module_dict()
  assert not [name for name in modules if name.startswith("undo_jax")]


@pytest.mark.processes
def test_a_page_of_help_holds_the_commands_own_flags_alone():
  pages = {}
  lines = [[name.replace("_", "-"), "--help"] for name in cli.COMMANDS]
  for name, (status, page, said) in zip(cli.COMMANDS, run(lines), strict=True):
    assert (status, said) == (0, "")
    assert "--alsologtostderr" not in page and "--pdb" not in page
    assert f"  undo-jax {name} --" in page
    pages[name] = page
  assert all(f"--{x} " in pages["undo"] for x in ("config", "workdir", "process_id"))
  assert "--output" in pages["seeds"] and "--config" not in pages["seeds"]


@pytest.mark.processes
def test_wrong_flags_are_one_line():
  done = run([["undo", *arguments.split()] for arguments in WRONG])
  for (status, _, said), message in zip(done, WRONG.values(), strict=True):
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: ") and message in line
