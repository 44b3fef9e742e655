"""Configs as frozen dataclasses that check their own fields."""

from collections.abc import Mapping
import dataclasses
import typing
from typing import TypeVar

from ml_collections import ConfigDict

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
    ConfigError: the error of a dataclass, with the name of its block.
  """
  hints = typing.get_type_hints(kind)
  fields = {
    field: _value(hints.get(field), value, f"{name}.{field}")
    for field, value in block.items()
  }
  try:
    return kind(**fields)
  except ConfigError as error:
    message = str(error)
    raise ConfigError(
      message if message.startswith("config.") else f"{name}: {message}"
    ) from None


def _value(hint: object, value: object, name: str) -> object:
  if not isinstance(value, ConfigDict):
    return value
  if typing.get_origin(hint) is Mapping:
    _, inner = typing.get_args(hint)
    return {key: _value(inner, block, f"{name}.{key}") for key, block in value.items()}
  assert isinstance(hint, type) and dataclasses.is_dataclass(hint)
  return read(hint, value, name)
