"""Blocks of a config: fields in their order, each with its type."""

from typing import Any, TypeAlias

from ml_collections import config_dict

# A ConfigDict: type checkers do not know its fields.
Config: TypeAlias = Any


def table() -> Config:
  """Return an empty block that keeps the order of its fields."""
  return config_dict.ConfigDict(sort_keys=False)


def block(**fields: object) -> Config:
  """Return a block with these fields, in their order."""
  made = table()
  for name, value in fields.items():
    made[name] = value
  return made


def maybe(kind: type) -> Config:
  """Return the value of a field that is None, or of a type once it is set."""
  return config_dict.placeholder(kind)


def optional(kind: type, **values: object) -> Config:
  """Return a block whose fields are of one type or None."""
  block = table()
  for name, value in values.items():
    block[name] = config_dict.placeholder(kind)
    block[name] = value
  return block
