"""The rooms of the house: who may import whom, what stays out, what is needed."""

import ast
import configparser
import functools
import pathlib
import re
import subprocess
import sys

import pytest

import undo_jax
from undo_jax.utils import extras

ROOT = pathlib.Path(undo_jax.__file__).parent
EXPERIMENTS = ROOT.parent / "experiments"
# A room imports only from itself and from those before it.
ROOMS = (
  "utils",
  "distributed",
  "interpolation",
  "routing",
  "models",
  "data",
  "config",
  "objectives",
  "hardware",
  "engines",
  "training",
  "testing",
  "evaluation",
  "tasks",
  "attacks",
  "plan",
  "frontier",
  "checkpoints",
  "running",
  "estimation",
  "cli",
)
# Third-party packages with one place each.
ONLY = {
  "flax": ("models",),
  "safetensors": ("models",),
  "orbax": ("training/checkpointing.py", "distributed/processes.py"),
  "tensorboardX": ("training/trackers.py",),
  "wandb": ("training/trackers.py",),
  "mlflow": ("training/trackers.py",),
  "trackio": ("training/trackers.py",),
  "filelock": ("training/trackers.py", "utils/compilation_cache.py"),
  "etils": ("utils/files.py",),
  "fsspec": ("utils/files.py",),
  "grain": ("data",),
  "tensorflow_datasets": ("data",),
  "array_record": ("data/rows.py",),
  "pyarrow": ("data/documents/files.py", "data/questions.py"),
  "sklearn": ("data/images.py", "data/row_classifier.py"),
  "selectolax": ("data/documents/html_text.py",),
  "sentencepiece": ("data",),
  "tokenizers": ("data",),
  "altair": (),
  "vl_convert": ("frontier/figures/render.py",),
  "matplotlib": (),
  "optuna": ("running/search_study.py",),
  "gguf": ("models/gguf_weights.py", "checkpoints/gguf_export.py"),
  "jinja2": ("frontier/report.py", "evaluation/chat.py"),
  "tabulate": ("utils/tables.py",),
  "lm_eval": ("evaluation/harness.py",),
  "rouge_score": ("evaluation/memorization.py",),
  "ray": ("engines/ray_tasks.py",),
  "submitit": ("engines/slurm_jobs.py",),
}
# Those that experiments/ imports too, and where.
OUTSIDE = {
  "flax": ("direct_inversion/model.py",),
  "lm_eval": ("harness.py",),
  "matplotlib": ("gradient_routing",),
  "sklearn": ("direct_inversion/judge.py",),
}
# Makes an import of these packages fail as if they were not installed.
BLOCK = """
import sys
class Blocked:
  names = ("tensorflow", "torch", "transformers", "peft")
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in self.names:
      raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""
# What is installed with the package, as it is imported.
CORE = {
  "absl",
  "etils",
  "flax",
  "fsspec",
  "jax",
  "ml_collections",
  "numpy",
  "optax",
  "pydantic",
  "scipy",
}
# Modules of the rooms that need no more than it, which these leave out.
NEED_MORE = {
  "undo_jax.utils.tables",
  "undo_jax.distributed.processes",
  "undo_jax.models.checkpoint_files",
  "undo_jax.models.gguf_weights",
  "undo_jax.models.huggingface",
  "undo_jax.models.peft",
}
CORE_ROOMS = (
  "utils distributed interpolation routing models objectives hardware".split()
)
SOURCES = sorted(ROOT.rglob("*.py"))


@functools.cache
def imported(path):
  """Return the modules a file imports, `from a import b` as a and a.b."""
  modules = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      modules += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      modules += [f"{node.module}.{alias.name}" for alias in node.names]
  return modules


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


@pytest.mark.parametrize("package", ONLY)
def test_a_package_is_imported_in_one_place(package):
  outside = OUTSIDE.get(package, ())
  for root, places in ((ROOT, ONLY[package]), (EXPERIMENTS, outside)):
    for path in root.rglob("*.py"):
      if any(module.split(".")[0] == package for module in imported(path)):
        name = str(path.relative_to(root))
        assert name.startswith(places), f"{path} may not import {package}"


def test_the_library_knows_no_experiment_and_no_config():
  for path in SOURCES:
    names = {module.split(".")[0] for module in imported(path)}
    assert not names & {"experiments", "configs", "benchmarks"}, path


def test_configs_of_studies_can_be_read_alone():
  """They import from the library, and from no other config."""
  for path in (ROOT.parent / "configs").glob("*/*.py"):
    names = {module.split(".")[0] for module in imported(path)}
    assert not names & {"configs", "experiments"}, path


def modules_of(rooms):
  return [
    ".".join(("undo_jax", *path.relative_to(ROOT).with_suffix("").parts))
    for path in SOURCES
    if path.name != "__init__.py" and room(path) in rooms
  ]


@pytest.mark.processes
def test_the_package_then_its_core_then_the_rest_need_no_more_than_they_should():
  core = [name for name in modules_of(CORE_ROOMS) if name not in NEED_MORE]
  assert {"undo_jax.objectives.cross_entropy", "undo_jax.interpolation"} < {*core}
  code = f"""
import importlib, sys, time
# The package alone: no JAX, and fast.
start = time.process_time()
import undo_jax
assert time.process_time() - start < 0.1 and "jax" not in sys.modules
assert set(undo_jax.__all__) <= set(dir(undo_jax))
{BLOCK}
# Losses, noise, models and routing: nothing that is in an extra.
always = Blocked.names
Blocked.names = (*always, *{tuple(extras.EXTRAS)})
for module in {core}:
  importlib.import_module(module)
assert undo_jax.cross_entropy and undo_jax.toward_init
try:
  undo_jax.load
except ImportError as error:
  from undo_jax.utils import extras
  assert "pip install 'undo-jax[hf]'" in str(extras.explain(error))
else:
  raise AssertionError("safetensors was not blocked")
# Every module: neither TensorFlow nor PyTorch.
Blocked.names = always
for module in {modules_of(ROOMS)}:
  importlib.import_module(module)
for name in undo_jax.__all__:
  assert getattr(undo_jax, name).__name__ in (name, "Decoder")
"""
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_every_library_is_of_the_core_or_of_an_extra():
  declared = configparser.ConfigParser()
  declared.read(ROOT.parent / "setup.cfg")
  names = declared["options.extras_require"]
  assert set(extras.EXTRAS.values()) <= set(names)
  assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)
  for path in SOURCES:
    tops = {module.partition(".")[0] for module in imported(path)}
    others = tops - CORE - sys.stdlib_module_names - {"undo_jax", "None"}
    assert others <= set(extras.EXTRAS), path


def test_what_is_advised_is_an_extra_by_its_very_name():
  """Older pips install nothing for lm_eval where the extra is lm-eval."""
  declared = configparser.ConfigParser()
  declared.read(ROOT.parent / "setup.cfg")
  names, top = {*declared["options.extras_require"]}, ROOT.parent
  advising = [*top.glob("*.md"), *top.glob("docs/**/*.md"), top / "Makefile", *SOURCES]
  actual = set()
  for path in advising:
    for extra in re.findall(r"(?:undo-jax|[' ]\.)\[([\w,-]+)\]", path.read_text()):
      actual |= {*extra.split(",")}
  assert {"run", "lm-eval", "test"} <= actual <= names


@pytest.mark.processes
def test_processes_that_encode_documents_need_no_jax():
  code = f"""{BLOCK}
Blocked.names += ("jax", "tensorflow_datasets", "pyarrow")
import undo_jax.data.documents.encoding
"""
  subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_nothing_is_pickled():
  for path in SOURCES:
    names = {module.split(".")[0] for module in imported(path)}
    assert not names & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
