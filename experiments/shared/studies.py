"""A study whose results, tables and figures depend on its parts alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from experiments.gradient_routing.running import Outcome, Part, Study


class Results(Protocol):
  """A module that makes a study's results."""

  def assemble(self, parts: Mapping[str, Any], /) -> Any:
    """Return the content of results.json."""
    ...

  def table(self, results: Any, /) -> str:
    """Return the tables that the command prints."""
    ...


class Figures(Protocol):
  """A module that draws a study's figures."""

  def draw(self, results: Any, /) -> Mapping[str, bytes]:
    """Return the figures by file name."""
    ...


def of(
  parts: Iterable[str],
  compute: Callable[[Sequence[str]], Iterable[tuple[str, Part]]],
  results: Results,
  figures: Figures,
  free: Sequence[str] = (),
) -> Study[Part]:
  """Return a study.

  Args:
    parts: names of the parts, in the order of the results.
    compute: see `Study`.
    results: the module that makes results of the parts.
    figures: the module that draws the results.
    free: see `Study`.
  """

  def finish(parts: Mapping[str, Part]) -> Outcome:
    out = results.assemble(parts)
    return Outcome(out, figures.draw(out), results.table(out))

  return Study(parts=list(parts), compute=compute, finish=finish, free=free)
