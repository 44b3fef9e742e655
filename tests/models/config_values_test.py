"""Values of a config.json: of the right type, the default, or one line."""

import pytest

from undo_jax.models import config_values
from undo_jax.utils.types import ConfigError

READERS = {
  "whole": (config_values.whole, 3, 5),
  "positive": (config_values.positive, 0.5, 2.0),
  "switch": (config_values.switch, False, True),
}
WRONG = {
  "whole": (0, -1, 2.0, 2**31, 10**400, "4", True, [], {}),
  "positive": (0, -1e-9, float("inf"), float("nan"), 10**400, "4", True, [], {}),
  "switch": (0, 1, "true", [], {}),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_value_is_of_its_type_or_the_default(kind):
  read, default, given = READERS[kind]
  assert read({"key": given}, "key", default) == given
  assert read({"key": None}, "key", default) == read({}, "key", default) == default
  for value in WRONG[kind]:
    with pytest.raises(ConfigError, match="config.json: key must be .*, got") as error:
      read({"key": value}, "key", default)
    assert "\n" not in str(error.value)


def test_what_has_no_default_must_be_there():
  for read in (config_values.whole, config_values.positive):
    with pytest.raises(ConfigError, match="key must be .*, got None"):
      read({}, "key")


def test_objects_and_lists_of_texts():
  assert config_values.mapping({"key": {"a": 1}}, "key") == {"a": 1}
  assert config_values.mapping({"key": None}, "key") == {}
  assert config_values.texts({"key": ["a"]}, "key") == ["a"]
  assert config_values.texts({}, "key") is None
  for value in ("a", 1, [1]):
    for read in (config_values.mapping, config_values.texts):
      with pytest.raises(ConfigError, match="config.json: key must be"):
        read({"key": value}, "key")
