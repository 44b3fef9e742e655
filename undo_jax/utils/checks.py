"""Errors about a field of a config: what was expected, what it was, how to fix it."""

import dataclasses
import math
from typing import Any, NoReturn

from undo_jax.utils import records
from undo_jax.utils.records import FieldError


def fail(name: str, expected: str, got: object) -> NoReturn:
  """Raise the ConfigError of a field, named by its path in the config."""
  raise records.fixable(FieldError(f"config.{name}", expected, got))


def field(config: Any, name: str) -> Any:
  """Return the value at a dotted path of a config, or of one made of dataclasses.

  Raises:
    ConfigError: if a block on the way lacks the next part, or is none.
  """
  value, parts = config, name.split(".")
  for depth, part in enumerate(parts):
    try:
      value = getattr(value, part) if dataclasses.is_dataclass(value) else value[part]
    except (AttributeError, LookupError, TypeError):
      fail(".".join(parts[:depth]), f"a block with {part}", value)
  return value


def at_least(config: object, name: str, smallest: int) -> None:
  """Raise ConfigError unless the field is an integer of at least `smallest`."""
  value = field(config, name)
  is_integer = isinstance(value, int) and not isinstance(value, bool)
  if not is_integer or not smallest <= value < 2**31:
    fail(name, f"an integer of at least {smallest}", value)


def integers(config: object, name: str, smallest: int) -> None:
  """Raise ConfigError unless the field is some integers of at least `smallest`."""
  values = field(config, name)
  good = all(isinstance(x, int) and x >= smallest for x in values)
  if not values or not good:
    fail(name, f"at least one integer, none below {smallest}", values)


def numbers(config: object, name: str, *, above: float = -math.inf) -> None:
  """Raise ConfigError unless the field is some finite numbers above a bound."""
  values = field(config, name)
  if not values or not all(is_number(x) and x > above for x in values):
    bound = "" if above == -math.inf else f", all above {above:g}"
    fail(name, f"at least one number{bound}", values)


def seeds(config: Any) -> None:
  """Raise ConfigError unless config.seeds are distinct integers of at least 0."""
  values = config.seeds
  good = values and all(isinstance(s, int) and s >= 0 for s in values)
  if not good or len(set(values)) != len(values):
    fail("seeds", "at least one integer of at least 0, none twice", values)


def unit(name: str, value: Any) -> None:
  """Raise ConfigError unless the value lies in [0, 1]."""
  if not is_number(value) or not 0 <= value <= 1:
    fail(name, "a number in [0, 1]", value)


def is_number(value: Any) -> bool:
  """Whether a value is a finite number; bool is none."""
  known = isinstance(value, int | float) and not isinstance(value, bool)
  return known and math.isfinite(value)
