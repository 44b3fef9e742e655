"""README.md and docs/: blocks of Python run, commands and quoted lines exist."""

import ast
import importlib.util
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import jax
import pytest

from tests import children, minimal
from undo_jax import testing
from undo_jax.cli import COMMANDS
from undo_jax.models import huggingface
from undo_jax.models.decoder import Decoder
from undo_jax.utils import config_files

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Its blocks are files, which tests/cli/your_own_method_test.py runs.
BLOCKS = {n: BLOCK.findall((ROOT / n).read_text()) for n in NAMES}
RUN = [n for n in NAMES if BLOCKS[n] and n != "docs/your_own_method.md"]


def _commands(page):
  """Return the words of each command of ours in a page's blocks of code."""
  text, commands = page.read_text().replace("\\\n", " "), []
  for line in re.findall(r"^(?: {4,}|\$ )(.*)$", text, re.MULTILINE):
    line = re.split(r" +# |; done| && | & ", line)[0].strip()
    if re.match(r"(undo-jax|(\.venv/bin/)?python -m (experiments|benchmarks)\.)", line):
      commands.append(shlex.split(line))
  return commands


COMMAND_LINES = [
  pytest.param(words, id=f"{name}: {' '.join(words)[:70]}")
  for name, page in zip(NAMES, PAGES, strict=True)
  for words in _commands(page)
]


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A directory with what the pages' blocks read: texts, a checkpoint, the pages."""
  (tmp_path / "docs").symlink_to(ROOT / "docs")
  for folder, suffix in (("english", "txt"), ("korean", "jsonl")):
    (tmp_path / folder).mkdir()
    texts = [f"{folder} text {i} of {suffix} " * 9 for i in range(300)]
    lines = texts if suffix == "txt" else [json.dumps({"text": t}) for t in texts]
    (tmp_path / folder / f"a.{suffix}").write_text("\n".join(lines))
  config = testing.config(num_layers=1)
  params = jax.jit(Decoder(config).init)(jax.random.key(0))
  huggingface.save(tmp_path / "checkpoints" / "tiny", config, params)
  monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", RUN)
def test_blocks_of_python_run(name, place):
  names = {}
  for block in BLOCKS[name]:
    exec(compile(block, name, "exec"), names)  # noqa: S102  The project's own page.


def test_pages_with_blocks_of_python():
  assert {"README.md", "docs/concepts.md", "docs/library.md"} <= set(RUN)


def _flags():
  """Return all strings of our commands' files, among them the names of their flags."""
  names = {"help", "config"}
  for folder in ("undo_jax/cli", "experiments", "benchmarks"):
    for path in (ROOT / folder).rglob("*.py"):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
          names.add(node.value.lstrip("-").replace("-", "_"))
  return names


FLAGS = _flags()


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_commands_and_their_flags_exist(words):
  program = words[1] if words[0] == "undo-jax" else words[2]
  if program == "--help":
    return
  if words[0] == "undo-jax":
    assert program.replace("-", "_") in COMMANDS
  else:
    assert importlib.util.find_spec(program) is not None
  flags = dict(w[2:].partition("=")[::2] for w in words if w.startswith("--"))
  config = flags.get("config", "CONFIG")
  loaded = None if config.isupper() else config_files.load(config)
  for name in flags:
    if name.startswith("config."):
      if loaded is not None:
        place = loaded
        for part in name.split(".")[1:]:
          assert part in place, f"{config} has no {name}"
          place = place[part]
    else:
      name = name.replace("-", "_")
      _, _, end = name.rpartition("_")  # Of a flag for each source: retain_lines.
      assert {name, name.removeprefix("no"), f"_{end}"} & FLAGS, name


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no Bash")
def test_bash_completes_the_commands():
  text = (ROOT / "docs" / "start.md").read_text()
  (line,) = re.findall(r"^ +(complete .*)$", text, re.MULTILINE)
  python = f"{sys.executable} -c 'from undo_jax.cli import main; main()'"
  script = f'undo-jax() {{ {python} "$@"; }}\n{line}\ncomplete -p undo-jax'
  command = [shutil.which("bash"), "--norc", "-ec", script]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
  words = re.findall("-W '(.*)'", done.stdout, re.DOTALL)[0].split()
  assert tuple(words) == COMMANDS


def test_lines_quoted_in_concepts_are_in_their_files():
  text = (ROOT / "docs" / "concepts.md").read_text()
  quotes = re.findall(r"`([^`\n]+)` in `(undo_jax/[\w/]+\.py)`", text)
  quotes += re.findall(
    r"^    (\S.*)\n\n[^`]*is the line in `(undo_jax/\S+\.py)`", text, re.MULTILINE
  )
  quotes += re.findall(r"`([^`\n]+)` \(`(undo_jax/[\w/]+\.py)`\)", text)
  assert len(quotes) >= 5
  for code, path in quotes:
    assert " ".join(code.split()) in " ".join((ROOT / path).read_text().split()), code


@pytest.mark.parametrize("folder", ["attacks", "objectives", "routing"])
def test_every_file_of_a_method_is_on_a_page_of_the_api(folder):
  page = (ROOT / "docs" / "api" / f"{folder}.md").read_text()
  files = {path.stem for path in (ROOT / "undo_jax" / folder).glob("[!_]*.py")}
  assert set(re.findall(rf"^::: undo_jax\.{folder}\.(\w+)$", page, re.M)) == files


def test_every_page_is_in_the_menu():
  menu = (ROOT / "zensical.toml").read_text()
  pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
  assert [str(page) for page in pages if f'"{page}"' not in menu] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name):
  page = ROOT / name
  for target in re.findall(r"\]\(([^)#]+?)(?:#[\w-]+)?\)", page.read_text()):
    if "://" not in target:
      assert (page.parent / target).exists(), target


@pytest.mark.processes
def test_commands_of_the_first_page_run(tmp_path):
  lines = _commands(ROOT / "README.md")
  assert [words[:2] for words in lines] == [
    ["undo-jax", "undo"],
    ["undo-jax", "frontier"],
  ]
  kept = ("base", "data_filtering", "max_ent")
  for words in lines:
    (config,) = (w.partition("=")[2] for w in words if w.startswith("--config="))
    models = config_files.load(config).models
    few = minimal.OVERRIDES | {f"models.{m}.run": m in kept for m in models}
    few |= {"seeds": (0,)}
    if config.startswith("frontier"):
      few |= {"attacks.relearn_mixed.run": False, "attacks.relearn.seeds": (0,)}
    small = [f"--config.{name}={value}" for name, value in few.items()]
    status, _, said = children.run(*words[1:], *small, cwd=tmp_path)
    assert status == 0, said
  for run in ("arithmetic", "frontier"):
    assert (tmp_path / "runs" / run / "report.html").exists()


def _cells():
  """Return kind and text of the notebook's cells."""
  notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())
  return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def test_notebook_is_its_text():
  script = (ROOT / "docs" / "quickstart.py").read_text()
  _, *parts = re.split(r"^# %%", script, flags=re.MULTILINE)
  expected = []
  for part in parts:
    kind, _, text = part.partition("\n")
    if "markdown" in kind:
      text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    expected.append(("markdown" if "markdown" in kind else "code", text.strip()))
  assert _cells() == expected


@pytest.mark.processes
def test_notebook_runs(tmp_path, monkeypatch):
  few = {f"config.{name}": str(value) for name, value in minimal.OVERRIDES.items()}
  monkeypatch.setenv("QUICKSTART", json.dumps(few))
  monkeypatch.setenv("MPLBACKEND", "agg")
  monkeypatch.chdir(tmp_path)

  run = subprocess.run

  def command(words, **options):
    if pathlib.Path(words[0]).name != "undo-jax":  # What matplotlib asks for fonts.
      return run(words, **options)
    assert options == {"check": True}
    status, _, said = children.run(*words[1:], cwd=tmp_path)
    assert status == 0, said

  monkeypatch.setattr("subprocess.run", command)
  names = {}
  for kind, text in _cells():
    if kind == "code":
      exec(compile(text, "quickstart", "exec"), names)  # noqa: S102
  assert (tmp_path / "runs" / "quickstart" / "report.html").exists()
  assert names["axes"][0].images and len(names["plt"].gcf().axes) == 4
