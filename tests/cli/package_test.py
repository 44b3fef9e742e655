"""The wheel as it is installed: one package, one command, used from anywhere."""

import configparser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests import minimal
import undo_jax
from undo_jax.utils import config_files

pytestmark = pytest.mark.processes
ROOT = pathlib.Path(undo_jax.__file__).parents[1]
# Few programs, whose compiling takes longest.
CHANGES = {
  **{f"models.{name}.run": False for name in minimal.config().models if name != "base"},
  **{f"attacks.{name}.run": False for name in minimal.config().attacks},
  "references.filtered": None,
  "references.unlearned": None,
  "model.num_layers": 1,
}


def run(*command, cwd, **environment):
  return subprocess.run(
    command,
    cwd=cwd,
    env={**os.environ, "PYTHONPATH": "", "JAX_PLATFORMS": "cpu", **environment},
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
  """Built from a copy, since setuptools leaves its work in the source tree."""
  source = tmp_path_factory.mktemp("source") / "undo_jax"
  source.mkdir()
  unwanted = shutil.ignore_patterns("__pycache__")
  for name in ("undo_jax", "configs", "experiments"):
    shutil.copytree(ROOT / name, source / name, ignore=unwanted)
  for path in ROOT.iterdir():
    if path.is_file():
      shutil.copy(path, source)
  command = "-m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir out ."
  done = run(
    sys.executable,
    *command.split(),
    cwd=source,
    PYTHONPATH=os.environ.get("PYTHONPATH", ""),
  )
  assert done.returncode == 0, done.stderr
  (path,) = (source / "out").glob("*.whl")
  return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
  """An environment with the wheel, and with what this one has but undo_jax."""
  here = tmp_path_factory.mktemp("environment")
  done = run(sys.executable, "-m", "venv", "--without-pip", str(here), cwd=here)
  assert done.returncode == 0, done.stderr
  (packages,) = here.glob("lib/python*/site-packages")
  # A folder that is named so has no part in its own .pth files, as editable installs.
  others = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
  (packages / "others.pth").write_text("\n".join(sorted(others)) + "\n")
  command = ("-m", "pip", "--python", str(here), "install", "--quiet", "--no-deps")
  done = run(sys.executable, *command, str(wheel), cwd=here)
  assert done.returncode == 0, done.stderr
  return here / "bin"


def test_the_wheel_holds_one_package_and_the_configs_in_it(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  tops = {name.partition("/")[0] for name in names}
  assert tops == {"undo_jax", f"undo_jax-{undo_jax.__version__}.dist-info"}
  assert "undo_jax/py.typed" in names
  shipped = {name for name in names if name.startswith("undo_jax/configs/")}
  expected = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py")}
  assert shipped == {f"undo_jax/{path.as_posix()}" for path in expected}
  files = {path for path in (ROOT / "undo_jax").rglob("*") if path.is_file()}
  own = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
  assert own == {name for name in names if name.startswith("undo_jax/")} - shipped


def test_a_jax_that_is_there_is_kept():
  settings = configparser.ConfigParser()
  settings.read(ROOT / "setup.cfg")
  extras = dict(settings["options.extras_require"])
  accelerated = {extras.pop(name).strip() for name in ("gpu", "tpu")}
  assert accelerated == {"jax[cuda12]", "jax[tpu]"}
  others = "\n".join([settings["options"]["install_requires"], *extras.values()])
  # A lower bound alone, so that pip leaves what fulfils it.
  assert re.findall(r"^(jax\b.*|jaxlib.*)$", others, re.MULTILINE) == ["jax>=0.10"]


def test_the_version_is_the_same_everywhere():
  version = undo_jax.__version__
  citation = (ROOT / "CITATION.cff").read_text()
  (date,) = re.findall(r"^date-released: (\S+)$", citation, re.MULTILINE)
  assert f"\nversion: {version}\n" in citation
  first = re.findall(
    r"^## \[(\d\S+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
  )[0]
  assert first == (version, date)


def test_the_command_lists_the_commands(installed, tmp_path):
  done = run(str(installed / "undo-jax"), "--help", cwd=tmp_path)
  assert done.returncode == 0 and "  undo " in done.stdout


def test_every_shipped_config_is_read_by_its_name(installed, tmp_path):
  code = """
import undo_jax
from undo_jax.utils import config_files
print(undo_jax.__file__)
for name in config_files.names():
  config_files.load(name)
  print(name)
from undo_jax.configs import arithmetic
"""
  done = run(str(installed / "python"), "-c", code, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  file, *names = done.stdout.splitlines()
  assert file.startswith(str(installed.parent))
  assert names == config_files.names()


def test_a_missing_library_is_one_line_that_names_its_extra(installed, tmp_path):
  code = "import sys; sys.modules['tokenizers'] = None\n"
  code += "from undo_jax import cli; cli.main()"
  done = run(str(installed / "python"), "-c", code, "prepare", "--help", cwd=tmp_path)
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.startswith("error: ") and "pip install 'undo-jax[data]'" in line


def test_a_run_of_a_shipped_config_ends_in_results(installed, tmp_path):
  done = run(
    *(str(installed / "undo-jax"), "undo", "--workdir=run"),
    *minimal.flags(**CHANGES),
    cwd=tmp_path,
    JAX_NUM_CPU_DEVICES="1",
  )
  assert done.returncode == 0, done.stderr
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert list(results["models"]) == ["base"]
  assert (
    "undo-jax undo --workdir=run --config="
    in (tmp_path / "run" / "command.txt").read_text()
  )
  assert os.listdir(tmp_path) == ["run"]
