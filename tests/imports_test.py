"""The rooms of the house: who may import whom, and what stays out."""

import ast
import pathlib
import subprocess
import sys

import pytest

import undo_jax

ROOT = pathlib.Path(undo_jax.__file__).parent
# A room imports only from itself and from those before it.
ROOMS = (
  "utils",
  "distributed",
  "interpolation",
  "routing",
  "models",
  "data",
  "objectives",
  "hardware",
  "training",
  "testing",
  "evaluation",
  "tasks",
  "attacks",
  "stages",
  "frontier",
  "checkpoints",
  "studies",
  "running",
  "estimation",
  "validation",
)
# Third-party packages with one place each.
ONLY = {
  "flax": ("models",),
  "safetensors": ("models",),
  "orbax": ("training/checkpointing.py", "distributed/processes.py"),
  "tensorboardX": ("training/writers.py",),
  "etils": ("utils/files.py",),
  "grain": ("data",),
  "tensorflow_datasets": ("data",),
  "array_record": ("data/rows.py",),
  "pyarrow": ("data/documents/files.py", "data/questions.py"),
  "sklearn": ("data/images.py",),
  "sentencepiece": ("data",),
  "tokenizers": ("data",),
  "matplotlib": ("frontier", "studies"),
  "lm_eval": ("evaluation/harness.py",),
}
# Makes an import of these packages fail as if they were not installed.
BLOCK = """
import sys
class Blocked:
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in ("tensorflow", "torch", "transformers", "peft"):
      raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
"""
SOURCES = sorted(ROOT.rglob("*.py"))


def imported(path):
  """Yields the modules a file imports, `from a import b` as a and a.b."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
  return path.relative_to(ROOT).with_suffix("").parts[0]


def test_imports_point_up_the_list_of_rooms():
  down = []
  for path in SOURCES:
    if path == ROOT / "__init__.py":
      continue
    own = ROOMS.index(room(path))
    for module in imported(path):
      parts = module.split(".")
      if parts[0] == "undo_jax" and len(parts) > 1 and ROOMS.index(parts[1]) > own:
        down.append(f"{path.relative_to(ROOT)} imports {module}")
  assert not down


@pytest.mark.parametrize("package, places", ONLY.items(), ids=ONLY)
def test_a_package_is_imported_in_one_place(package, places):
  for path in SOURCES:
    if any(module.split(".")[0] == package for module in imported(path)):
      name = str(path.relative_to(ROOT))
      assert name.startswith(places), f"{name} may not import {package}"


def test_no_module_needs_tensorflow_or_torch():
  modules = [
    ".".join(("undo_jax", *path.relative_to(ROOT).with_suffix("").parts))
    for path in SOURCES
    if path.name != "__init__.py"
  ]
  code = BLOCK + "\n".join(f"import {module}" for module in modules)
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_processes_that_encode_documents_need_no_jax():
  code = BLOCK.replace('"tensorflow"', '"jax", "tensorflow_datasets", "pyarrow"')
  code += "\nimport undo_jax.data.documents.encoding"
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_nothing_is_pickled():
  for path in SOURCES:
    names = {module.split(".")[0] for module in imported(path)}
    assert not names & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
