"""What stands in a specification, for tests of figures."""

from collections.abc import Iterator
from typing import Any

from undo_jax.frontier.figures.render import WIDE


def drawn(module, results, width=WIDE):
  """Return the panels of a figure, without its legend."""
  spec = module.draw(results, width)
  return [view for view in views(spec) if "title" in view or "data" in view]


def views(spec) -> Iterator[dict[str, Any]]:
  """Return the panels and the legend of a specification."""
  for key in ("vconcat", "concat"):
    if key in spec:
      for each in spec[key]:
        yield from views(each)
      return
  yield spec


def layers(view, mark):
  """Return the layers of a panel that have a mark."""
  return [layer for layer in view["layer"] if layer["mark"]["type"] == mark]


def rows(view, mark=None, index=0):
  """Return the rows of a panel, or of one of its layers with rows of its own."""
  of = view if mark is None else layers(view, mark)[index]
  return of["data"]["values"]


def title(view):
  text = view.get("title") or ""
  return text["text"] if isinstance(text, dict) else text
