"""Whatever a field of a config is given: it works, or one line says what it must be."""

import functools
import inspect
import math

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
import jax
from ml_collections import config_dict
import pytest

from undo_jax import config as builders
from undo_jax import objectives
from undo_jax.distributed import sharding
from undo_jax.plan import checks, translation
from undo_jax.plan.config import parse
from undo_jax.utils import config_files
from undo_jax.utils.errors import ConfigError

NAMES = tuple(f"{name}:tiny" for name in config_files.names() if "/" not in name)
ONE_DEVICE = {"replica": 1, "data": 1, "fsdp": 1, "tensor": 1}
SCALARS = st.one_of(
  st.none(),
  st.booleans(),
  st.text(max_size=5),
  st.integers(-(2**100), 2**100),
  st.integers(-2, 40),
  st.floats(),
  st.floats(-1, 2),
)
VALUES = st.one_of(
  SCALARS,
  st.lists(SCALARS, max_size=3).map(tuple),
  st.lists(st.lists(SCALARS, max_size=2), max_size=2),
  # Blocks of ml_collections take no names with dots.
  st.dictionaries(
    st.text(st.characters(exclude_characters="."), max_size=3), SCALARS, max_size=2
  ),
)


@functools.cache
def fields(name):
  """Return the paths of a config's blocks and fields, those of what is run."""
  return list(below(builders.shipped(name)))


def below(block, before=()):
  """Yield the paths of a block's blocks and fields, less those of what is not run."""
  for key, value in block.items():
    if before in (("models",), ("attacks",)) and not value.run:
      continue
    yield (*before, key)
    if isinstance(value, config_dict.ConfigDict):
      yield from below(value, (*before, key))


@st.composite
def changes(draw):
  name = draw(st.sampled_from(NAMES))
  return name, draw(st.sampled_from(fields(name))), draw(VALUES)


def changed(name, path, value):
  """Return the shipped config with one field of another value, of any type."""
  config = builders.shipped(name)
  block = functools.reduce(lambda block, key: block[key], path[:-1], config)
  with block.unlocked(), block.ignore_type():
    block[path[-1]] = value
  return config


@settings(
  max_examples=100,
  deadline=None,
  derandomize=True,
  suppress_health_check=[HealthCheck.too_slow],
)
@example(("arithmetic:tiny", ("references", "base"), ["a"]))
@example(("arithmetic:tiny", ("data", "english"), 3))
@example(("arithmetic:tiny", ("data", "english", "paths"), 2.0))
@example(("arithmetic:tiny", ("models", "undo", "options", "base_share"), ("a",)))
@example(("arithmetic:tiny", ("mesh",), {"model": 2}))
@given(changes())
def test_a_field_of_any_value_works_or_is_named_by_one_line(change):
  name, path, value = change
  try:
    declared = parse(changed(name, path, value))
    checks.check(declared, ONE_DEVICE)
    sharding.make_mesh(**declared.mesh, devices=jax.devices()[:1])
    translation.plan(declared, declared.seeds[0])
  except ConfigError as error:
    assert "\n" not in str(error)


@pytest.mark.parametrize("field", ["learning_rate", "weight_decay"])
@pytest.mark.parametrize(
  "value", [math.nan, math.inf, -math.inf, -1.0, 1e30, 1e300, "1", None]
)
def test_numbers_of_an_optimizer_are_finite_and_not_negative(field, value):
  path = ("models", "base", "optimizer", field)
  with pytest.raises(ConfigError, match=rf"base\.optimizer\.{field}: expected"):
    parse(changed("arithmetic:tiny", path, value))


@pytest.mark.parametrize(
  "path",
  [
    ("models", "undo", "noise", "std"),
    ("models", "max_ent", "options", "retain_weight"),
    ("attacks", "relearn", "clip_norm"),
    ("max_loss",),
  ],
)
def test_numbers_that_nobody_means_are_refused(path):
  with pytest.raises(ConfigError, match=rf"{path[-1]}: expected .*at most 1e\+06"):
    declared = parse(changed("arithmetic:tiny", path, 1e30))
    checks.check(declared, ONE_DEVICE)


# Of options that have no default.
FITTING = {
  "alpha": 1.0,
  "answer": (1,),
  "around": "rmu",
  "beta": 1.0,
  "coefficient": 1.0,
  "layer": 0,
  "layers": (0,),
  "retain_weight": 1.0,
  "routing": None,
}


@pytest.mark.parametrize("name", objectives.REGISTRY)
def test_options_are_of_the_types_that_methods_state(name):
  parameters = inspect.signature(objectives.REGISTRY.get(name).make).parameters
  required = {key for key, p in parameters.items() if p.default is p.empty} - {"apply"}
  fitting = {key: FITTING[key] for key in required}
  for option in set(parameters) - {"apply", "routing"}:
    for wrong in ({"a": 1}, [["a"]], 1e30, math.nan, -1.5):
      with pytest.raises(ConfigError, match=rf"{option}.*: expected"):
        objectives.check(name, fitting | {option: wrong})


def test_an_infinite_norm_means_no_clipping():
  path = ("models", "base", "optimizer", "clip_norm")
  for value in (None, math.inf):
    declared = parse(changed("arithmetic:tiny", path, value))
    assert declared.models["base"].optimizer.clip_norm is None
