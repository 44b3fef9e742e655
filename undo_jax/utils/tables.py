"""Tables of text: names to the left, numbers, formatted already, to the right."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
  """Return a table for a terminal; spaces around a cell widen its column."""
  return tabulate(
    [header, *rows],
    tablefmt="plain",
    disable_numparse=True,
    colalign=_sides(header),
    preserve_whitespace=True,
  )


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
  """Return a table in Markdown."""
  return tabulate(
    list(rows),
    header,
    tablefmt="pipe",
    disable_numparse=True,
    colalign=_sides(header),
  )


def _sides(header: Sequence[str]) -> tuple[str, ...]:
  return ("left", *("right" for _ in header[1:]))
