"""Sweeps: of an entry of models one for each combination of values of its fields."""

from collections.abc import Iterator, Mapping
import copy
import itertools
from typing import Any

from undo_jax.utils import records
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import JsonObject


def spelled_out(entries: Mapping[str, object]) -> JsonObject:
  """Return the table of models with each sweep spelled out."""
  spelled: JsonObject = {}
  for name, entry in entries.items():
    for suffix, member in _members(name, entry):
      whole = f"{name}{suffix}"
      if whole in spelled:
        raise ConfigError(
          f"config.models: expected names that differ, but {whole!r} is there twice; "
          f"change config.models.{name}.sweep or the other entry's name"
        )
      spelled[whole] = member
  return spelled


def _members(name: str, entry: Any) -> Iterator[tuple[str, Any]]:
  """Yield the suffix and the entry of each combination of a sweep's values."""
  sweep = entry.get("sweep") if isinstance(entry, dict) else None
  if not isinstance(sweep, dict) or not sweep:
    yield "", entry
    return
  where = f"config.models.{name}.sweep"
  fields = dict(_flattened(sweep, where))
  for values in itertools.product(*fields.values()):
    swept = dict(zip(fields, values, strict=True))
    member = copy.deepcopy(entry) | {"sweep": {}, "family": name, "swept": swept}
    for path, value in swept.items():
      _put(member, path, value, where)
    yield "".join(map(_suffix, swept, values)), member


def _flattened(
  block: Mapping[str, object], where: str
) -> Iterator[tuple[str, list[Any]]]:
  """Yield the dotted path of each swept field and its values."""
  for name, values in block.items():
    if isinstance(values, dict):
      below = _flattened(values, f"{where}.{name}")
      yield from ((f"{name}.{path}", inner) for path, inner in below)
      continue
    if not isinstance(values, list) or not values:
      raise records.fixable(FieldError(f"{where}.{name}", "values in a tuple", values))
    if len({_suffix("", value) for value in values}) < len(values):
      raise records.fixable(FieldError(f"{where}.{name}", "values that differ", values))
    yield name, values


def _suffix(path: str, value: object) -> str:
  shown = f"{value:g}" if isinstance(value, int | float) else str(value)
  return f"_{path.rpartition('.')[2]}_{shown}"


def _put(entry: JsonObject, path: str, value: object, where: str) -> None:
  """Set the field at a dotted path, which must be there."""
  *blocks, last = path.split(".")
  block: Any = entry
  for name in blocks:
    block = block.get(name) if isinstance(block, dict) else None
  if not isinstance(block, dict) or last not in block:
    raise ConfigError(f"{where}: expected fields that the entry has, got {path!r}")
  block[last] = value
