"""Values of a config.json, each of the type that it must have."""

from collections.abc import Mapping
import sys

from undo_jax.utils.types import ConfigError, JsonObject


def whole(settings: JsonObject, key: str, default: int | None = None) -> int:
  """Return a positive whole number below 2^31; null, or no key, is the default.

  Raises:
    ConfigError: if it is something else; names the key, as the functions below do.
  """
  value = settings.get(key)
  value = default if value is None else value
  if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
    raise ConfigError(
      f"config.json: {key} must be a positive whole number, got {value!r}"
    )
  return value


def positive(settings: JsonObject, key: str, default: float | None = None) -> float:
  """Return a positive finite number; null, or no key, is the default."""
  value = settings.get(key)
  value = default if value is None else value
  if isinstance(value, int | float) and not isinstance(value, bool):
    if 0 < value <= sys.float_info.max:
      return float(value)
  raise ConfigError(f"config.json: {key} must be a positive number, got {value!r}")


def switch(settings: JsonObject, key: str, default: bool) -> bool:
  """Return true or false; null, or no key, is the default."""
  value = settings.get(key)
  value = default if value is None else value
  if not isinstance(value, bool):
    raise ConfigError(f"config.json: {key} must be true or false, got {value!r}")
  return value


def mapping(settings: JsonObject, key: str) -> JsonObject:
  """Return an object's copy; null, or no key, is an empty one."""
  value = settings.get(key)
  if value is None:
    return {}
  if not isinstance(value, Mapping):
    raise ConfigError(f"config.json: {key} must be an object, got {value!r}")
  return dict(value)


def texts(settings: JsonObject, key: str) -> list[str] | None:
  """Return a list of texts; null, or no key, is None."""
  value = settings.get(key)
  is_list = isinstance(value, list) and all(isinstance(text, str) for text in value)
  if value is not None and not is_list:
    raise ConfigError(f"config.json: {key} must be a list of texts, got {value!r}")
  return value
