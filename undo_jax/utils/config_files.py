"""Config files: the shipped ones by name, any by its path; their errors in one line."""

from collections.abc import Iterator
import contextlib
import importlib
import importlib.util
import pathlib
import sys
import traceback
from types import ModuleType
from typing import Any

from ml_collections import config_dict

import undo_jax
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError


def directory() -> pathlib.Path:
  """Return the folder of the shipped files, which in a checkout is the top one."""
  package = pathlib.Path(undo_jax.__file__).resolve().parent
  inside = package / "configs"
  return inside if inside.is_dir() else package.with_name("configs")


def names() -> list[str]:
  """Return the names of the shipped config files, as --config takes them."""
  root = directory()
  return sorted(
    path.relative_to(root).with_suffix("").as_posix()
    for path in root.rglob("*.py")
    if "\ndef get_config(" in path.read_text("utf-8")
  )


def load(text: str) -> config_dict.ConfigDict:
  """Return the config that a user names: a shipped file or a path, and its size.

  Args:
    text: "arithmetic", "arithmetic:tiny", "configs/arithmetic.py:tiny"; or a run's own,
      "runs/one/config.json".

  Raises:
    ConfigError: if there is no such file, or it fails; says in which line.
  """
  if text.endswith(".json"):
    return _of_a_run(text)
  name, colon, size = text.partition(":")
  path = find(name)
  with _errors_of(path):
    get_config = getattr(_import(path), "get_config", None)
    if get_config is None:
      raise ConfigError(f"{path}: expected a function get_config, but there is none")
    config = get_config(size) if colon else get_config()
  if not isinstance(config, config_dict.ConfigDict):
    raise ConfigError(f"{path}: get_config must return a ConfigDict, got {config!r}")
  return config


def _of_a_run(text: str) -> config_dict.ConfigDict:
  """Return the config that a run has left in its directory."""
  path = files.path(text)
  if not path.exists():
    raise ConfigError(f"--config: there is no file {text}")
  content = files.read_record(path)
  content.pop("version", None)
  return config_dict.ConfigDict(_tuples(content))


def _tuples(value: Any) -> Any:
  """Return JSON with tuples for lists, as config files have them."""
  if isinstance(value, dict):
    return {name: _tuples(item) for name, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value


def find(name: str) -> pathlib.Path:
  """Return the file, links resolved, of a shipped config's name or of a path."""
  shipped = names()
  if name in shipped:
    return (directory() / f"{name}.py").resolve()
  path = pathlib.Path(name).expanduser()
  if path.is_file():
    return path.resolve()
  raise ConfigError(
    f"--config: expected a file or one of the shipped configs, which are "
    f"{', '.join(shipped)}; got {name!r}"
  )


def _import(path: pathlib.Path) -> ModuleType:
  """Import a file; one that lies in a package, as a module of it."""
  folder = path.parent
  packages = [folder]
  while (packages[-1] / "__init__.py").is_file():
    packages.append(packages[-1].parent)
  name = ""
  for package in reversed(packages[:-1]):
    name = f"{name}.{package.name}".lstrip(".")
    _execute(name, package / "__init__.py")
  return _execute(f"{name}.{path.stem}" if name else "config_file", path)


def _execute(name: str, path: pathlib.Path) -> ModuleType:
  """Return the module of this name, imported from the file if it is not yet."""
  module = sys.modules.get(name)
  if module is not None and pathlib.Path(module.__file__ or "").resolve() == path:
    return module
  spec = importlib.util.spec_from_file_location(name, path)
  if spec is None or spec.loader is None:
    raise ConfigError(f"--config: {path} is no Python file; its name must end in .py")
  module = sys.modules[name] = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return module


@contextlib.contextmanager
def _errors_of(path: pathlib.Path) -> Iterator[None]:
  """Turn whatever a config file raises into one line with the place in it."""
  try:
    yield
  except ConfigError:
    raise
  except SyntaxError as error:
    raise ConfigError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
  except Exception as error:  # noqa: BLE001  It is anybody's code.
    lines = traceback.extract_tb(error.__traceback__)
    place = [line for line in lines if line.filename == str(path)] or lines
    what = "" if type(error) is ValueError else f"{type(error).__name__}: "
    raise ConfigError(
      f"{place[-1].filename}, line {place[-1].lineno}: {what}{error}"
    ) from error
