"""Which lines are left out of documents."""

import pytest

from undo_jax.data.documents import line_filter
from undo_jax.utils.types import ConfigError

TEXTS = [
  "Title\nopen the menu\n\nClose",
  "open the menu \nmenu 메뉴",
  "Close",
  "삽입\nOK",
]


def test_repeated_and_empty_lines_are_left_out_and_the_first_place_counts():
  kept = list(line_filter.filtered(TEXTS))
  assert kept == ["Title\nopen the menu\nClose", "menu 메뉴", "삽입\nOK"]


def test_lines_that_do_not_match_are_left_out():
  assert list(line_filter.filtered(TEXTS, keep="[가-힣]")) == ["menu 메뉴", "삽입"]


def test_short_documents_are_left_out():
  assert list(line_filter.filtered(TEXTS, min_characters=8)) == [
    "Title\nopen the menu\nClose"
  ]


def test_a_wrong_regex_is_named():
  with pytest.raises(ConfigError, match=r"expected a regex, got '\('"):
    list(line_filter.filtered(TEXTS, keep="("))
