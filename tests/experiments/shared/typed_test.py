"""Blocks of a config as dataclasses, and what is wrong with them by name."""

from collections.abc import Mapping
import dataclasses
import functools
import math

from ml_collections import config_dict
import pytest

from experiments.shared import typed
from undo_jax.utils.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Part:
  size: int
  rate: float = 0.5

  def __post_init__(self):
    if self.size < 0:
      raise ConfigError(f"size must be at least 0, got {self.size}")


@dataclasses.dataclass(frozen=True)
class Whole:
  one: Part
  some: Mapping[str, Part]
  widths: tuple[int, ...]
  limit: float | None


def make_config(size=1):
  config = config_dict.create(
    widths=(8, 4), one={"size": 2, "rate": 0.25}, limit=config_dict.placeholder(float)
  )
  config.some = config_dict.ConfigDict({"first": {"size": size}, "second": {"size": 3}})
  return config


def test_blocks_become_dataclasses():
  some = {"first": Part(1), "second": Part(3)}
  assert typed.read(Whole, make_config()) == Whole(Part(2, 0.25), some, (8, 4), None)


def test_an_error_names_the_block():
  with pytest.raises(ConfigError, match=r"^config.some.first: size must be .* got -1"):
    typed.read(Whole, make_config(size=-1))


def test_other_fields_are_an_error():
  config = make_config()
  config.one = config_dict.create(size=1, weight=2.0)
  with pytest.raises(ConfigError, match=r"config\.one\.weight: there is no such field"):
    typed.read(Whole, config)
  del config.one.weight, config.one.size
  with pytest.raises(ConfigError, match=r"config\.one\.size: expected a value, got no"):
    typed.read(Whole, config)


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("widths", 3),
    ("widths", (1, "a")),
    ("widths", {}),
    ("limit", "abc"),
    ("limit", math.nan),
    ("one", 2),
    ("one.size", None),
    ("one.size", 1.5),
    ("some", ()),
    ("some.first", "abc"),
  ],
)
def test_a_value_of_another_type_is_an_error(path, value):
  config = make_config()
  *parents, name = path.split(".")
  block = functools.reduce(lambda block, key: block[key], parents, config)
  with block.ignore_type():
    block[name] = value
  with pytest.raises(ConfigError, match=rf"^config\.{path}(\[1\])?: expected "):
    typed.read(Whole, config)
