"""A study whose results, tables and figures depend on its parts alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
from typing import Any, Protocol, TypeVar

from ml_collections import ConfigDict

from experiments.shared import typed
from experiments.shared.running import Outcome, Part, Study, seed_parts

Config = TypeVar("Config")


class Results(Protocol):
  """A module that makes a study's results."""

  @property
  def assemble(self) -> Callable[..., Any]:
    """Returns what results.json holds, from what a study is given and its parts."""
    ...

  def table(self, results: Any, /) -> str:
    """Return the tables that the command prints."""
    ...


class Figures(Protocol):
  """A module that draws a study's figures."""

  def draw(self, results: Any, /) -> Mapping[str, bytes]:
    """Return the figures by file name."""
    ...


def maker(
  kind: type[Config],
  names: Callable[[Config], Iterable[str]],
  compute: Callable[[Config, Sequence[str]], Iterator[tuple[str, Part]]],
  results: Results,
  figures: Figures,
  *,
  assembles_config: bool = False,
  free: Sequence[str] = (),
) -> Callable[[ConfigDict], Study[Part]]:
  """Return what makes the study of a config, or raises ConfigError.

  Args:
    kind: the typed config.
    names: gives the names of the parts, in the order of the results.
    compute: (config, names of missing parts) -> see `Study`.
    results: the module that puts the parts together.
    figures: the module that draws what came out.
    assembles_config: whether `results.assemble` is given the config before the parts.
    free: see `Study`.
  """

  def make(config: ConfigDict) -> Study[Part]:
    checked = typed.read(kind, config)
    computing = functools.partial(compute, checked)
    given = (checked,) if assembles_config else ()
    return of(names(checked), computing, results, figures, given=given, free=free)

  return make


def seed_names(config: Any) -> list[str]:
  """Return the names of the parts of a config whose parts are its seeds."""
  return list(seed_parts(config.seeds))


def of(
  parts: Iterable[str],
  compute: Callable[[Sequence[str]], Iterable[tuple[str, Part]]],
  results: Results,
  figures: Figures,
  *,
  given: Sequence[object] = (),
  free: Sequence[str] = (),
) -> Study[Part]:
  """Return a study.

  Args:
    parts: names of the parts, in the order of the results.
    compute: see `Study`.
    results: the module that puts the parts together.
    figures: the module that draws what came out.
    given: what `results.assemble` is given before the parts.
    free: see `Study`.
  """

  def finish(parts: Mapping[str, Part]) -> Outcome:
    out = results.assemble(*given, parts)
    return Outcome(out, figures.draw(out), results.table(out))

  return Study(parts=list(parts), compute=compute, finish=finish, free=free)
