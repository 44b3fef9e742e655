"""What config files share."""

import pytest

from undo_jax.config import parse_size


def test_a_size_is_the_named_one_or_the_first():
  assert parse_size("tiny", ("small", "tiny")) == "tiny"
  assert parse_size(None, ("small", "tiny")) == parse_size("", ("small",)) == "small"
  with pytest.raises(ValueError, match="unknown size 'huge' .* known are small, tiny"):
    parse_size("huge", ("small", "tiny"))
