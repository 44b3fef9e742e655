"""What config files share."""

import glob
import pathlib

import pytest

from undo_jax.config import parse_size, standard_library


def test_a_size_is_the_named_one_or_the_first():
  assert parse_size("tiny", ("small", "tiny")) == "tiny"
  assert parse_size(None, ("small", "tiny")) == parse_size("", ("small",)) == "small"
  with pytest.raises(ValueError, match="unknown size 'huge' .* known are small, tiny"):
    parse_size("huge", ("small", "tiny"))


def test_modules_of_this_python_are_found_by_their_first_letters():
  names = [pathlib.Path(n).name for p in standard_library("d-f") for n in glob.glob(p)]
  assert {"dataclasses.py", "functools.py"} <= set(names)
  assert {name[0] for name in names} == {"d", "e", "f"}
