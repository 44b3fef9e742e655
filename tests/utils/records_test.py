"""Records are read strictly: what each refusal says, and JSON both ways."""

import dataclasses
import json
import math
from typing import Any, Literal

import hypothesis
from hypothesis import strategies
import pytest

from undo_jax.utils import records
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError, record


@record
class Wheel:
  spokes: int
  radius: float = 0.3

  def __post_init__(self):
    records.at_least(self, "spokes", smallest=1)
    records.above(self, "radius")


@record
class Cart:
  name: str
  wheels: tuple[Wheel, ...]
  spare: Wheel | None = None
  colors: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
  is_new: bool = False
  kind: Literal["hand", "ox"] = "hand"
  extra: Any = None


WHEEL = {"spokes": 8, "radius": 0.5}
CART = {"name": "red", "wheels": [WHEEL, {"spokes": 9}]}


def test_json_becomes_a_record():
  cart = records.from_json(Cart, CART | {"colors": {"top": [1, 0.5]}})
  wheels = (Wheel(spokes=8, radius=0.5), Wheel(spokes=9))
  assert cart == Cart(name="red", wheels=wheels, colors={"top": (1.0, 0.5)})
  # What JSON's readers give as an integer is a float where one is meant.
  assert isinstance(cart.colors["top"][0], float)
  assert isinstance(cart.wheels, tuple) and isinstance(cart.wheels[0], Wheel)


def test_tuples_are_read_as_lists_are():
  as_tuples = CART | {"wheels": tuple(CART["wheels"])}
  assert records.from_json(Cart, as_tuples) == records.from_json(Cart, CART)


def test_records_are_frozen_and_take_keywords_alone():
  wheel = Wheel(spokes=3)
  with pytest.raises(dataclasses.FrozenInstanceError):
    wheel.spokes = 4
  with pytest.raises(TypeError, match="positional"):
    Wheel(3)
  assert hash(wheel) == hash(Wheel(spokes=3, radius=0.3))


END = "; set it by --config.{0}=VALUE or in the config file"
INT, NUMBER, TEXT = "a valid integer", "a valid number", "a valid string"


@pytest.mark.parametrize(
  ("changes", "flag", "error"),
  [
    # Another type: nothing is converted.
    ({"name": 3}, "name", f"config.name: expected {TEXT}, got 3"),
    ({"name": None}, "name", f"config.name: expected {TEXT}, got None"),
    ({"is_new": 1}, "is_new", "config.is_new: expected a valid boolean, got 1"),
    (
      {"is_new": "true"},
      "is_new",
      "config.is_new: expected a valid boolean, got 'true'",
    ),
    ({"kind": "car"}, "kind", "config.kind: expected 'hand' or 'ox', got 'car'"),
    # Nested paths, through records, tuples and dicts.
    (
      {"spare": {"spokes": "8"}},
      "spare.spokes",
      f"config.spare.spokes: expected {INT}, got '8'",
    ),
    (
      {"spare": {"spokes": 8.5}},
      "spare.spokes",
      f"config.spare.spokes: expected {INT}, got 8.5",
    ),
    # bool is an integer in Python, but not here.
    (
      {"spare": {"spokes": True}},
      "spare.spokes",
      f"config.spare.spokes: expected {INT}, got True",
    ),
    (
      {"spare": {"spokes": 8, "radius": False}},
      "spare.radius",
      f"config.spare.radius: expected {NUMBER}, got False",
    ),
    (
      {"wheels": [WHEEL, {"spokes": None}]},
      "wheels",
      f"config.wheels[1].spokes: expected {INT}, got None",
    ),
    (
      {"colors": {"top": [1.0, "x"]}},
      "colors.top",
      f"config.colors.top[1]: expected {NUMBER}, got 'x'",
    ),
    # Integers are counted in int32.
    (
      {"spare": {"spokes": 2**31}},
      "spare.spokes",
      f"config.spare.spokes: expected an integer below {2**31}, got {2**31}",
    ),
    (
      {"spare": {"spokes": 10**40}},
      "spare.spokes",
      f"config.spare.spokes: expected an integer below {2**31}, got {10**40}",
    ),
    # What a record refuses itself.
    (
      {"wheels": [{"spokes": 0}]},
      "wheels",
      "config.wheels[0].spokes: expected an integer of at least 1, got 0",
    ),
    (
      {"spare": WHEEL | {"radius": 0}},
      "spare.radius",
      "config.spare.radius: expected a number above 0, got 0.0",
    ),
    # No number at all, wherever it stands.
    (
      {"spare": WHEEL | {"radius": math.nan}},
      "spare.radius",
      "config.spare.radius: expected a finite number, got nan",
    ),
    (
      {"spare": WHEEL | {"radius": 1e39}},
      "spare.radius",
      "config.spare.radius: expected a number that float32 holds, got 1e+39",
    ),
    (
      {"colors": {"top": [0.0, math.inf]}},
      "colors.top",
      "config.colors.top[1]: expected a finite number, got inf",
    ),
    (
      {"extra": {"deep": [[-math.inf]]}},
      "extra.deep",
      "config.extra.deep[0][0]: expected a finite number, got -inf",
    ),
  ],
)
def test_a_field_that_cannot_work_is_named_with_what_came_and_the_mend(
  changes, flag, error
):
  with pytest.raises(ConfigError) as raised:
    records.from_json(Cart, CART | changes)
  assert str(raised.value) == error + END.format(flag)


@pytest.mark.parametrize(
  ("value", "error"),
  [
    ({"name": "red"}, "config.wheels: expected a value, got none; set it"),
    (
      CART | {"spare": {"radius": 1.0}},
      "config.spare.spokes: expected a value, got none; set it",
    ),
    (CART | {"bell": 1}, "config.bell: there is no such field; remove it"),
    (
      CART | {"wheels": [WHEEL | {"tyre": None}]},
      "config.wheels[0].tyre: there is no such field; remove it",
    ),
    (
      CART | {"extra": {"set": {1, 2}}},
      "config.extra.set: expected a number, text, None or tuple, got a set",
    ),
    (
      CART | {"extra": b"bytes"},
      "config.extra: expected a number, text, None or tuple, got a bytes",
    ),
  ],
)
def test_fields_that_are_missing_or_unknown(value, error):
  with pytest.raises(ConfigError) as raised:
    records.from_json(Cart, value)
  assert str(raised.value) == error


@pytest.mark.parametrize("value", [None, 3, "cart", [], [CART]])
def test_what_is_no_object_is_refused_in_one_line(value):
  with pytest.raises(ConfigError, match=r"^config: expected .*, got ") as raised:
    records.from_json(Cart, value)
  assert "\n" not in str(raised.value)


def test_errors_name_the_path_of_the_file():
  with pytest.raises(ConfigError) as raised:
    records.from_json(Wheel, {"spokes": -1}, path="done.json")
  # No flag sets what stands in a file.
  expected = "done.json.spokes: expected an integer of at least 1, got -1"
  assert str(raised.value) == expected


def test_a_union_takes_the_record_that_fits():
  assert records.from_json(Wheel | None, None) is None
  assert records.from_json(Wheel | None, WHEEL) == Wheel(**WHEEL)


numbers = strategies.floats(allow_nan=False, allow_infinity=False, width=32)
wheels = strategies.builds(
  Wheel,
  spokes=strategies.integers(1, 2**31 - 1),
  radius=strategies.floats(min_value=1e-300, max_value=1e6),
)
carts = strategies.builds(
  Cart,
  name=strategies.text(),
  wheels=strategies.lists(wheels, max_size=3).map(tuple),
  spare=strategies.none() | wheels,
  colors=strategies.dictionaries(
    strategies.text(), strategies.lists(numbers, max_size=3).map(tuple), max_size=3
  ),
  is_new=strategies.booleans(),
  kind=strategies.sampled_from(["hand", "ox"]),
  extra=strategies.none() | strategies.lists(strategies.booleans() | numbers),
)


@hypothesis.given(carts)
def test_json_and_back_gives_the_same_record(cart):
  written = json.dumps(records.to_json(cart), allow_nan=False)
  assert records.from_json(Cart, json.loads(written)) == cart
  assert records.to_json(records.from_json(Cart, json.loads(written))) == json.loads(
    written
  )


# ---- Checks that records make of their own fields.


@record
class Field:
  value: Any = None
  other: Any = None


@pytest.mark.parametrize(
  ("check", "good", "bad", "expected"),
  [
    (
      lambda r: records.at_least(r, "value", smallest=2),
      (2, 3, 2**31 - 1, None),
      (1, -5),
      "an integer of at least 2",
    ),
    (
      lambda r: records.at_least(r, "value", smallest=2),
      (),
      (2**31, 10**30),
      "an integer below 2147483648",
    ),
    (
      lambda r: records.above(r, "value"),
      (1e-300, 5, None),
      (0, 0.0, -1.0, math.nan),
      "a number above 0",
    ),
    (
      lambda r: records.above(r, "value", bound=1.5),
      (1.6,),
      (1.5,),
      "a number above 1.5",
    ),
    (
      lambda r: records.not_negative(r, "value"),
      (0, 0.0, 7, None),
      (-1, -1e-300, math.nan),
      "a number of at least 0",
    ),
    (
      lambda r: records.unit(r, "value"),
      (0, 1, 0.5, None),
      (-0.1, 1.1, math.nan),
      "a number in [0, 1]",
    ),
    (
      lambda r: records.one_of(r, "value", ("a", "b")),
      ("a", "b"),
      ("c", None),
      "one of a, b",
    ),
    (
      lambda r: records.distinct(r, "value"),
      ((), (1, 2), ("a", "b")),
      ((1, 1), (1, 2, 1)),
      "values that differ",
    ),
  ],
)
def test_checks_of_fields(check, good, bad, expected):
  for value in good:
    check(Field(value=value))
  for value in bad:
    with pytest.raises(FieldError) as raised:
      check(Field(value=value))
    assert str(raised.value) == f"value: expected {expected}, got {value!r}"


def test_a_check_names_the_field_of_several_that_is_wrong():
  with pytest.raises(FieldError, match="^other: "):
    records.unit(Field(value=0.5, other=2), "value", "other")


def test_a_changed_record_is_checked_again():
  wheel = records.replaced(Wheel(spokes=8), radius=0.5)
  assert wheel == Wheel(spokes=8, radius=0.5)
  with pytest.raises(FieldError, match="spokes: expected an integer of at least 1"):
    records.replaced(wheel, spokes=0)


def test_an_error_is_put_below_a_path():
  error = FieldError("spokes", "more", 1).below("cart.wheels[0]")
  assert (error.field, error.got) == ("cart.wheels[0].spokes", 1)
  assert str(error) == "cart.wheels[0].spokes: expected more, got 1"
  assert records.fixable(error) is error
  fixable = records.fixable(error.below("config"))
  assert str(fixable) == (
    "config.cart.wheels[0].spokes: expected more, got 1; "
    "set it by --config.cart.wheels=VALUE or in the config file"
  )
