"""Config files by name and by path, alone and in packages, and their errors."""

import pathlib
import re

import pytest

import configs
from undo_jax.plan.config import parse, plain
from undo_jax.utils import config_files, files
from undo_jax.utils.errors import ConfigError

ROOT = pathlib.Path(configs.__file__).parent


def write(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  return path


def test_the_shipped_files_are_those_with_a_config():
  names = config_files.names()
  assert {"arithmetic", "language", "pods", "wmdp"} < set(names)
  assert "common" not in names and "__init__" not in names
  assert config_files.directory() == ROOT


def test_a_name_and_a_path_are_the_same_config(monkeypatch):
  monkeypatch.chdir(ROOT.parent)
  loaded = [
    config_files.load(f"{text}:tiny").to_json()
    for text in ("arithmetic", "configs/arithmetic.py", ROOT / "arithmetic.py")
  ]
  assert loaded[0] == loaded[1] == loaded[2]
  assert config_files.load("pods:tiny").to_json() != loaded[0]
  # Without a size it is the file's first one.
  assert config_files.load("arithmetic").to_json() == loaded[0]


def test_files_of_a_package_import_each_other_wherever_it_lies(tmp_path):
  write(tmp_path / "mine/__init__.py", "")
  write(tmp_path / "mine/base.py", "WIDTH = 3\n")
  write(tmp_path / "mine/deep/__init__.py", "")
  text = """
from ml_collections import config_dict
from .. import base
def get_config(size="small"):
  return config_dict.create(width=base.WIDTH, size=size)
"""
  path = write(tmp_path / "mine/deep/one.py", text)
  assert config_files.load(f"{path}:large").to_dict() == {"width": 3, "size": "large"}


CREATE = "from ml_collections import config_dict\ndef get_config():\n"


@pytest.mark.parametrize(
  "text, message",
  [
    ("x = 1\ny = = 2\n", "line 2: invalid syntax"),
    ("import nothing_of_this_name\n", "line 1: ModuleNotFoundError: No module named"),
    (CREATE + "  return config_dict.create(a=1).b\n", "line 3: AttributeError: "),
    (CREATE + "  raise ValueError('known are\\nx')\n", "line 3: known are"),
    ("x = 1\n", "expected a function get_config, but there is none"),
    (CREATE + "  pass\n", "get_config must return a ConfigDict, got None"),
  ],
)
def test_errors_in_a_file_give_its_line(tmp_path, text, message):
  path = write(tmp_path / "mine.py", text)
  with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}.*{message}"):
    config_files.load(str(path))


def test_an_unknown_size_names_the_known_ones():
  with pytest.raises(
    ConfigError, match="'huge' after .*; known are tiny, small, paper"
  ):
    config_files.load("arithmetic:huge")


@pytest.mark.parametrize("name", ["arithmetics", "configs/nothing.py", "common"])
def test_an_unknown_name_lists_the_shipped_ones(name):
  with pytest.raises(ConfigError, match=f"arithmetic, .*wmdp; got '{name}'"):
    config_files.load(name)


def test_what_a_run_has_left_of_its_config_declares_the_same(tmp_path):
  config = config_files.load("arithmetic:tiny")
  path = tmp_path / "config.json"
  files.write_json(path, {"version": 3, **plain(config)})
  again = config_files.load(str(path))
  assert parse(again) == parse(config) and plain(again) == plain(config)
  assert isinstance(again.seeds, tuple)
  with pytest.raises(ConfigError, match="there is no file .*none.json"):
    config_files.load(str(tmp_path / "none.json"))
