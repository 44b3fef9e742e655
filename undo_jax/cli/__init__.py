"""The command line: `undo-jax NAME` and, in a checkout, `python -m experiments.NAME`.

Each command is a module here, whose docstring is its page of help; its `define()`
defines its flags and returns its main. A module is imported only when its command is
run.
"""

import ast
import difflib
import gc
import os
import pathlib
import signal
import sys
import textwrap

COMMANDS = (
  "undo",
  "frontier",
  "search",
  "pretrain",
  "unlearn",
  "distill",
  "relearn",
  "evaluate",
  "export",
  "import_gguf",
  "compare",
  "open",
  "compile",
  "generate",
  "harness",
  "tofu",
  "muse",
  "prepare",
  "prepare_documents",
  "prepare_language",
)


def main() -> None:
  """Run the command that the command line names, or list all of them."""
  name, *rest = sys.argv[1:] or ["--help"]
  if name in ("-h", "--help", "help"):
    print(_page())
    return
  command = name.replace("-", "_")
  if command not in COMMANDS:
    near = difflib.get_close_matches(command, COMMANDS, n=1) or COMMANDS
    known = " or ".join(near)
    print(f"error: no command {name!r}; did you mean {known}?", file=sys.stderr)
    sys.exit(2)
  sys.argv[1:] = rest
  run(command)


def run(command: str) -> None:
  """Run one of COMMANDS with the flags in sys.argv."""
  from undo_jax.utils import allocator

  if "jax" not in sys.modules:  # This process is ours from its start.
    allocator.use_huge_pages()
    signal.signal(signal.SIGTERM, _leave)
    # Until all is imported: none of it is garbage, and to look for some takes a fifth
    # of the time.
    gc.disable()
  from undo_jax.cli import process  # Here, since it brings JAX.

  process.run_command(command)


def _leave(number, frame) -> None:
  """End the process at SIGTERM while modules are imported; nothing is begun yet.

  What they import may take SystemExit for an error of its own. The status is that of
  distributed/preemption.py, which takes over.
  """
  del number, frame
  os._exit(75)


def _page() -> str:
  """Return the page of `undo-jax --help`: a line a command."""
  lines = [f"  {name:<19}{_summary(name)}" for name in COMMANDS]
  return "\n".join(
    [
      "undo_jax: make language models forget a capability for good, and measure it.",
      "",
      "  undo-jax undo --config=arithmetic:tiny --workdir=runs/arithmetic",
      "",
      *lines,
      "",
      "undo-jax COMMAND --help explains one of them.",
    ]
  )


def _summary(command: str) -> str:
  """Return the first line of a command's docstring, without importing it."""
  source = pathlib.Path(__file__).with_name(f"{command}.py").read_text("utf-8")
  text = ast.get_docstring(ast.parse(source)) or ""
  return textwrap.shorten(text.partition("\n")[0], 100)
