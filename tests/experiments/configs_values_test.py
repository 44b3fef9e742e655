"""Whatever a field of a study's config is given: it works, or one line says why not."""

import functools
import importlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest

from experiments.shared import typed
from tests.configs_values_test import VALUES, below
from undo_jax.utils import config_files
from undo_jax.utils.errors import ConfigError

# One of those in folders is of the pipeline.
STUDIES = [
  name
  for name in config_files.names()
  if "/" in name and "models" not in config_files.load(f"{name}:tiny")
]
ELSEWHERE = {"gradient_routing": "experiments.{}.{}.config"}  # One package for each.


def kind(name):
  """Return the class of a study's config."""
  paper, which = name.split("/")
  module = ELSEWHERE.get(paper, "experiments.{}.config").format(paper, which)
  return importlib.import_module(module).Config


@pytest.mark.parametrize("name", STUDIES)
def test_a_field_of_any_value_works_or_is_named_by_one_line(name):
  shipped = config_files.load(f"{name}:tiny")
  typed.read(kind(name), shipped)

  @settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
  )
  @given(st.sampled_from(list(below(shipped))), VALUES)
  def check(path, value):
    config = shipped.copy_and_resolve_references()
    block = functools.reduce(lambda block, key: block[key], path[:-1], config)
    with block.unlocked(), block.ignore_type():
      block[path[-1]] = value
    try:
      typed.read(kind(name), config)
    except ConfigError as error:
      assert "\n" not in str(error)

  check()
