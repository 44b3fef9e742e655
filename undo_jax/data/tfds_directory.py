"""TFDS datasets in directories that others wrote: checked before any of it is used.

TFDS makes the features that features.json names, and imports the module of a type that
it does not know: the module's code runs. Paths in either file may lead out of the
directory. Only files that name TFDS's own types and stay inside are read.
"""

from collections.abc import Iterator
import json
import os
import pathlib
import re
from typing import TypeAlias

import tensorflow_datasets as tfds

from undo_jax.utils.errors import ConfigError

Json: TypeAlias = (
  "dict[str, Json] | list[Json] | str | int | float | bool | None"  # As json reads it.
)
_INFO = "dataset_info.json"
# Keys with the name of a feature's class, in all forms that TFDS reads.
_TYPES = {"type", "pythonClassName", "python_class_name"}
_TEMPLATES = {"filepathTemplate", "filepath_template"}
_READ = {"names_file", "labels"}  # Arguments of features that may be paths.
# Python formats templates; other fields than these could ask for gigabytes of spaces.
_TEMPLATE = re.compile(r"(?:[\w./-]|\{[A-Z_]+\})*", re.ASCII)


def open_builder(directory: pathlib.Path) -> tfds.core.DatasetBuilder:
  """Return the builder of a prepared dataset, whose files it does not read yet.

  Args:
    directory: holds dataset_info.json, features.json and the splits' files.

  Raises:
    ConfigError: if a file names a type that is not TFDS's own or a place outside of
      the directory, or cannot be read; before anything is imported or opened.
  """
  check(directory)
  try:
    builder: tfds.core.DatasetBuilder = tfds.builder_from_directory(directory)
    paths = [path for split in builder.info.splits.values() for path in split.filepaths]
  except Exception as error:  # Of any kind: TFDS trusts what it reads.
    raise ConfigError(
      f"{directory}: expected a dataset of TFDS, which says: {_line(error)}; prepare "
      "it again"
    ) from error
  for path in paths:
    inside = os.path.abspath(path).startswith(os.path.abspath(directory) + os.sep)
    if not inside:
      raise _outside(directory / _INFO, str(path))
  return builder


def check(directory: pathlib.Path) -> None:
  """Read what a dataset's JSON files name, without importing or opening any of it.

  Raises:
    ConfigError: as `open_builder`.
  """
  info_file, features_file = directory / _INFO, directory / "features.json"
  info = _read(info_file)
  if not isinstance(info, dict):
    raise ConfigError(f"{info_file} is no JSON object; prepare the dataset again")
  _check_features(info_file, info.get("features"))
  if features_file.exists():
    _check_features(features_file, _read(features_file))
  for split in _objects(info_file, info.get("splits")):
    for key in _TEMPLATES & split.keys():
      template = split[key]
      if not isinstance(template, str) or not _TEMPLATE.fullmatch(template):
        raise _outside(info_file, f"{key}={template!r}")


def _check_features(file: pathlib.Path, features: Json) -> None:
  """Check the types of features at any depth, and that none reads a file."""
  known = _known_types()
  for node in _objects(file, features):
    # A feature may have any name; then the value is an object.
    plain = {key: value for key, value in node.items() if not isinstance(value, dict)}
    for key in _TYPES & plain.keys():
      if plain[key] not in known:
        raise ConfigError(
          f"{file}: expected feature types of tensorflow_datasets, got "
          f"{plain[key]!r}, whose code would be imported and run; prepare the dataset "
          "with tfds.features alone"
        )
    for key in _READ & plain.keys():
      if isinstance(plain[key], str):
        raise _outside(file, f"{key}={plain[key]!r}")


def _known_types() -> list[str]:
  """Return the names of TFDS's own feature classes."""
  connector = tfds.features.FeatureConnector
  classes = [
    x
    for x in vars(tfds.features).values()
    if isinstance(x, type) and issubclass(x, connector)
  ]
  names = [f"{x.__module__}.{x.__name__}" for x in classes]
  names += [alias for x in classes for alias in x.ALIASES]
  return [name for name in names if name.startswith("tensorflow_datasets.")]


def _objects(file: pathlib.Path, value: Json) -> Iterator[dict[str, Json]]:
  """Yield all objects in a JSON value at any depth, those in its strings too."""
  waiting = [value]
  while waiting:
    value = waiting.pop()
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
      value = _loads(file, value, otherwise=value)
    if isinstance(value, dict):
      yield value
      waiting += value.values()
    elif isinstance(value, list):
      waiting += value


def _loads(file: pathlib.Path, text: str, otherwise: Json) -> Json:
  """Return JSON, or `otherwise` where a text is none."""
  try:
    return json.loads(text)
  except RecursionError:
    raise ConfigError(f"{file} is nested too deeply; prepare it again") from None
  except ValueError:
    return otherwise


def _read(file: pathlib.Path) -> Json:
  try:
    value = _loads(file, file.read_text(encoding="utf-8"), otherwise=None)
  except (OSError, UnicodeDecodeError) as error:
    raise ConfigError(f"{file} cannot be read: {error}") from None
  if value is None:
    raise ConfigError(f"{file} is no JSON; prepare the dataset again")
  return value


def _outside(file: pathlib.Path, got: str) -> ConfigError:
  return ConfigError(
    f"{file}: expected names of files in its own directory, got {got}; prepare the "
    "dataset again"
  )


def _line(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
