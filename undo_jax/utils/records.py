"""Typed records: frozen dataclasses that check themselves, and JSON both ways.

A record reports a bad field in `__post_init__` by a `FieldError` with the field's
name; `from_json` puts the path before it, so that the message names the field and how
to set it.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import json
import math
import re
from typing import Any, NoReturn, TypeVar, dataclass_transform

import pydantic

from undo_jax.utils.errors import ConfigError

T = TypeVar("T")
Record = TypeVar("Record", bound=type)

_STRICT = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_WHERE = "config"  # The path that stands for a run's config.
_LARGEST = 2**31  # Integers are counted in int32.
LARGEST_NUMBER = 1e6  # Beyond it nobody means a rate, a weight or a scale.
# Beyond it a number is infinite where it is computed with.
_LARGEST_FLOAT = (2.0 - 2.0**-23) * 2.0**127


class FieldError(ConfigError):
  """A field that cannot work: its path, what was expected, what it was."""

  def __init__(self, field: str, expected: str, got: object):
    """Take the field's path below the record that raises it."""
    super().__init__(f"{field}: expected {expected}, got {got!r}")
    self.field, self.expected, self.got = field, expected, got

  def below(self, path: str) -> "FieldError":
    """Return the error with `path` before its own."""
    return FieldError(f"{path}.{self.field}", self.expected, self.got)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: Record) -> Record:
  """Make a class a frozen dataclass of keywords that `from_json` reads strictly.

  Only lists are converted to tuples and integers to floats; unknown fields, NaN and
  infinity are refused.
  """
  made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
  return strict(made)


def strict(cls: Record) -> Record:
  """Make `from_json` read a dataclass strictly; see `record`."""
  cls.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]
  return cls


def later(default: object) -> Any:
  """Mark a field that was added later: at its default, JSON does not have it.

  So a record that was identified by its JSON before keeps its identity.
  """
  return pydantic.Field(exclude_if=lambda value: value == default)


def tag(name: str) -> Any:
  """Mark one of several records that a field may hold; see `by_tag`."""
  return pydantic.Tag(f"<{name}>")


def by_tag(find: Callable[[object], str]) -> Any:
  """Mark a field that may hold one of several records, distinguished by a tag.

  So errors concern only the record that is meant.

  Args:
    find: returns the tag of a value, given as JSON or as a record.
  """
  return pydantic.Discriminator(lambda value: f"<{find(value)}>")


def from_json(cls: type[T], value: object, *, path: str = _WHERE) -> T:
  """Return the record for a JSON value.

  Args:
    cls: a record, or a union of records.
    value: as json.loads returns it.
    path: of the value in what the user wrote, for errors.

  Raises:
    ConfigError: at the first field that is missing, unknown, of another type, or
      refused by its record; one line with path, expected, got and how to fix it.
  """
  _check_finite(value, path)
  try:
    # By JSON's rules, under which a tuple may be a list.
    return _adapter(cls).validate_json(json.dumps(value))
  except pydantic.ValidationError as error:
    _raise_first(error, path)


def check_type(expected: Any, value: object, name: str) -> None:
  """Raise FieldError unless a value is of a type, strictly as in `from_json`.

  Args:
    expected: a type as functions annotate their arguments; text, or a type that JSON
      does not have, is not checked.
    value: as json.loads returns it, a tuple for a list included.
    name: the field's.
  """
  if isinstance(expected, str):
    return
  try:
    adapter = pydantic.TypeAdapter(expected, config=_STRICT)
  except pydantic.PydanticUserError:
    return
  try:
    adapter.validate_json(json.dumps(value))
  except pydantic.ValidationError as error:
    first = error.errors(include_url=False)[0]
    where = _join(name, first["loc"])
    raise FieldError(where, _expectation(first), first["input"]) from None


def to_json(value: object) -> Any:
  """Return a record as JSON: what `from_json` reads."""
  return _adapter(type(value)).dump_python(value, mode="json")


def _check_finite(value: object, path: str) -> None:
  """Raise ConfigError at the first NaN or infinity, at any depth."""
  if isinstance(value, Mapping):
    for name, item in value.items():
      _check_finite(item, f"{path}.{name}")
  elif isinstance(value, list | tuple):
    for index, item in enumerate(value):
      _check_finite(item, f"{path}[{index}]")
  elif isinstance(value, float) and not math.isfinite(value):
    raise fixable(FieldError(path, "a finite number", value))
  elif isinstance(value, float) and abs(value) > _LARGEST_FLOAT:
    raise fixable(FieldError(path, "a number that float32 holds", value))
  elif not isinstance(value, str | int | float | None):
    kind = type(value).__name__
    raise ConfigError(f"{path}: expected a number, text, None or tuple, got a {kind}")


@functools.cache
def _adapter(cls) -> pydantic.TypeAdapter:
  return pydantic.TypeAdapter(cls)


def _raise_first(error: pydantic.ValidationError, path: str) -> NoReturn:
  """Raise the ConfigError of the first thing that pydantic found."""
  first = error.errors(include_url=False)[0]
  where = _join(path, first["loc"])
  cause = first.get("ctx", {}).get("error")
  if isinstance(cause, FieldError):
    raise fixable(cause.below(where)) from None
  if isinstance(cause, ConfigError):
    raise ConfigError(f"{where}: {cause}") from None
  if first["type"] == "missing":
    raise ConfigError(f"{where}: expected a value, got none; set it") from None
  if first["type"] == "unexpected_keyword_argument":
    raise ConfigError(f"{where}: there is no such field; remove it") from None
  raise fixable(FieldError(where, _expectation(first), first["input"])) from None


# What pydantic says of a number out of its range.
_BOUNDS = {
  "greater_than": "a number above {gt:g}",
  "greater_than_equal": "a number of at least {ge:g}",
  "less_than_equal": "a number of at most {le:g}",
}


def _expectation(detail: Mapping[str, Any]) -> str:
  """Return what one of pydantic's errors expected."""
  bound = _BOUNDS.get(detail["type"])
  if bound is not None:
    return bound.format(**detail["ctx"])
  return detail["msg"].removeprefix("Input should be ")


def fixable(error: FieldError) -> ConfigError:
  """Return the error of a config's field with the flag that sets it."""
  prefix = f"{_WHERE}."
  if not error.field.startswith(prefix):
    return error
  return ConfigError(
    f"{error}; set it by {flag(error.field)}=VALUE or in the config file"
  )


def flag(field: str) -> str:
  """Return the flag of a config's field: of names with a colon in brackets."""
  named = re.sub(r"\.([^.\[]*:[^.\[]*)", r"['\1']", field.split("[")[0])
  return f"--{named}"


def _join(path: str, location: tuple[int | str, ...]) -> str:
  # Tags are no part of what the user wrote.
  named = [part for part in location if not str(part).startswith("<")]
  parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in named)
  return path + "".join(parts)


# ---- Checks that records make of their own fields.


def at_least(record: object, *names: str, smallest: int) -> None:
  """Raise FieldError unless each field is None or in [smallest, 2^31)."""
  for name in names:
    value = getattr(record, name)
    if value is not None and value < smallest:
      raise FieldError(name, f"an integer of at least {smallest}", value)
    if value is not None and value >= _LARGEST:
      raise FieldError(name, f"an integer below {_LARGEST}", value)


def above(record: object, *names: str, bound: float = 0.0) -> None:
  """Raise FieldError unless each field is None or in (bound, LARGEST_NUMBER]."""
  for name in names:
    value = getattr(record, name)
    if value is not None and not value > bound:
      raise FieldError(name, f"a number above {bound:g}", value)
  at_most(record, *names, largest=LARGEST_NUMBER)


def not_negative(record: object, *names: str) -> None:
  """Raise FieldError unless each field is None or in [0, LARGEST_NUMBER]."""
  for name in names:
    value = getattr(record, name)
    if value is not None and not value >= 0:
      raise FieldError(name, "a number of at least 0", value)
  at_most(record, *names, largest=LARGEST_NUMBER)


def at_most(record: object, *names: str, largest: float) -> None:
  """Raise FieldError unless each field is None or a number up to the largest."""
  for name in names:
    value = getattr(record, name)
    if value is not None and not value <= largest:
      raise FieldError(name, f"a number of at most {largest:g}", value)


def unit(record: object, *names: str) -> None:
  """Raise FieldError unless each field is None or lies in [0, 1]."""
  for name in names:
    value = getattr(record, name)
    if value is not None and not 0 <= value <= 1:
      raise FieldError(name, "a number in [0, 1]", value)


def one_of(record: object, name: str, known: Mapping | tuple) -> None:
  """Raise FieldError unless the field is one of the known values."""
  value = getattr(record, name)
  if value not in known:
    raise FieldError(name, f"one of {', '.join(map(str, known))}", value)


def distinct(record: object, *names: str) -> None:
  """Raise FieldError where the values of a field repeat."""
  for name in names:
    values = getattr(record, name)
    if len(set(values)) != len(values):
      raise FieldError(name, "values that differ", values)


def replaced(record: T, **changes: object) -> T:
  """Return a record with other values of some fields, checked again."""
  replace: Callable[..., T] = dataclasses.replace  # type: ignore[assignment]
  return replace(record, **changes)
