"""Tables: cells as they are given, names to the left and numbers to the right."""

from undo_jax.utils import tables

HEADER = ["name", "score", "n"]
ROWS = [["first one", "1.50", 7], ["second", "10.00", None]]


def test_text_has_aligned_columns():
  assert tables.text(HEADER, ROWS).splitlines() == [
    "name       score  n",
    "first one   1.50  7",
    "second     10.00",
  ]


def test_spaces_in_the_header_widen_a_column():
  header = ["name".ljust(12), "score".rjust(9), "n"]
  lines = tables.text(header, ROWS).splitlines()
  assert lines[1] == "first one          1.50  7"


def test_markdown_keeps_cells_as_they_are_written():
  lines = tables.markdown(HEADER, ROWS).splitlines()
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
  assert cells[0] == HEADER
  assert set("".join(cells[1])) == set(":-") and cells[1][1].endswith("-:")
  assert cells[2:] == [["first one", "1.50", "7"], ["second", "10.00", ""]]


def test_a_table_without_rows_is_its_header():
  assert tables.text(HEADER, []) == "name  score  n"
  assert tables.markdown(HEADER, []).splitlines()[0].startswith("| name")
