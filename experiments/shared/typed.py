"""Configs as frozen dataclasses that check their own fields."""

from collections.abc import Mapping, Sequence
import dataclasses
import typing
from typing import Any, TypeVar

from ml_collections import ConfigDict

from undo_jax.utils import records
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import ConfigError

Block = TypeVar("Block")


def read(kind: type[Block], block: ConfigDict, name: str = "config") -> Block:
  """Return a block of a config as a dataclass, with the blocks within it.

  Args:
    kind: a dataclass with the block's fields, which are values, dataclasses, or
      `Mapping[str, D]` of dataclasses D by name.
    block: the block; a field that has a default may be missing.
    name: of the block, for errors.

  Raises:
    ConfigError: at the first field that is missing, unknown or of another type, or the
      error of a dataclass, with the name of its block.
  """
  hints, known = typing.get_type_hints(kind), {f.name: f for f in _fields(kind)}
  for field in block:
    if field not in known:
      raise ConfigError(f"{name}.{field}: there is no such field; remove it")
  for field, described in known.items():
    if field not in block and described.default is dataclasses.MISSING:
      raise ConfigError(f"{name}.{field}: expected a value, got none; set it")
  values = {
    field: _value(hints[field], value, f"{name}.{field}")
    for field, value in block.items()
  }
  try:
    return kind(**values)
  except ConfigError as error:
    message = str(error)
    raise ConfigError(
      message if message.startswith("config.") else f"{name}: {message}"
    ) from None


def _fields(kind: type) -> Sequence[dataclasses.Field]:
  assert dataclasses.is_dataclass(kind)
  return dataclasses.fields(kind)


def _value(hint: Any, value: object, name: str) -> object:
  """Return a value as a field holds it; ConfigError if it is of another type."""
  inner = typing.get_args(hint)[1] if typing.get_origin(hint) is Mapping else None
  if inner is None and not dataclasses.is_dataclass(hint):
    if isinstance(value, ConfigDict):
      raise records.fixable(FieldError(name, "a value that is no block", {*value}))
    try:
      records.check_type(hint, value, name)
    except FieldError as error:
      raise records.fixable(error) from None
    return value
  if not isinstance(value, ConfigDict):
    raise ConfigError(f"{name}: expected a block, got {value!r}")
  if inner is None:
    return read(typing.cast(type, hint), value, name)
  return {key: _value(inner, block, f"{name}.{key}") for key, block in value.items()}
