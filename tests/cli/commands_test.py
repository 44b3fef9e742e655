"""The commands: their list, their pages of help, how they end."""

import ast
import importlib
import pathlib
import sys

from absl import flags
import pytest

import experiments
from tests import children
from undo_jax import cli

MAINS = sorted(
  path.stem
  for path in pathlib.Path(experiments.__file__).parent.glob("*.py")
  if path.stem != "__init__" and not path.stem.startswith("routing_")
)


@pytest.mark.parametrize("name", MAINS)
def test_a_main_is_its_command(name):
  assert name in cli.COMMANDS
  path = children.ROOT / "experiments" / f"{name}.py"
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
  for name in cli.COMMANDS:
    status, page, said = children.run(name.replace("_", "-"), "--help")
    assert (status, said) == (0, "")
    assert "--alsologtostderr" not in page and "--pdb" not in page
    assert f"  undo-jax {name} " in page
    pages[name] = page
  assert all(f"--{x} " in pages["undo"] for x in ("config", "workdir", "process_id"))
  assert "--output" in pages["compare"] and "--config" not in pages["compare"]
