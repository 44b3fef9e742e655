"""Files of a study: what it is, what is finished, what came out.

    WORKDIR/config.json command.txt environment.json
    WORKDIR/parts/NAME.json    a finished part, for example one seed
    WORKDIR/results.json figures/*.png

A part is computed once: the same command resumes with those that are missing, and a
longer list of seeds computes only the new ones. The workdir belongs to one config,
so that parts of two configs never meet.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
import logging
import re
from typing import Any, Protocol

from undo_jax.utils import environment, files, workdirs

LOGGER = logging.getLogger("undo_jax")
# What may differ between the runs of one workdir: which parts, not what they are.
FREE_FIELDS = ("seeds",)
# A study gives the parts it was asked for one by one, as they are finished.
Compute = Callable[[list[str]], Iterable[tuple[str, Mapping[str, Any]]]]


class Study(Protocol):
  """What a study without data of its own is, as a module."""

  def check(self, config: Any, /) -> None:
    """Raises ConfigError at the first field of the config that cannot work."""

  def part_names(self, config: Any, /) -> list[str]:
    """Returns the names of the parts, in the order of the results."""
    ...

  def compute(
    self, config: Any, names: list[str], /
  ) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yields (name, result) of the parts that are asked for."""
    ...

  def assemble(self, config: Any, parts: Mapping[str, Any], /) -> dict[str, Any]:
    """Returns the results of all parts, as JSON can hold them."""
    ...

  def table(self, results: Mapping[str, Any], /) -> str:
    """Returns the results as text."""
    ...


def run(
  study: Study,
  draw: Callable[[Mapping[str, Any]], Mapping[str, bytes]],
  config: Any,
  workdir: files.Path,
  *,
  free: Sequence[str] = (),
) -> None:
  """Checks the config, computes what is missing, writes results, prints the table.

  Args:
    study: the module of the study.
    draw: (results) -> PNG bytes by file name.
    config: the whole ConfigDict; the workdir becomes its own.
    workdir: all that the study writes.
    free: see `run_parts`.

  Raises:
    ConfigError: if the config cannot work, or the workdir is another's; before any
      compute.
  """
  study.check(config)
  compute = functools.partial(study.compute, config)
  parts = run_parts(config, workdir, study.part_names(config), compute, free=free)
  results = study.assemble(config, parts)
  write(workdir, results, draw(results))
  print(study.table(results))


def run_parts(
  config: Any,
  workdir: files.Path,
  names: Sequence[str],
  compute: Compute,
  *,
  free: Sequence[str] = (),
) -> dict[str, Any]:
  """Computes the parts of a study that are not finished; returns all of them.

  Args:
    config: the whole ConfigDict; the workdir becomes its own.
    workdir: all that the study writes.
    names: names of the parts, in the order of the results.
    compute: (names of unfinished parts) -> pairs (name, result), a generator if parts
      end at different times; each is on disk before the next is asked for.
    free: top-level fields of the config, beside the seeds, that choose which parts
      there are or how they are computed, but not what they are.

  Returns:
    The results by name, as JSON gives them back.

  Raises:
    ConfigError: if the workdir belongs to another config; before any compute.
    ValueError: if `compute` does not give the parts it was asked for.
  """
  claim(config, workdir, free)
  missing = [name for name in names if finished(workdir, name) is None]
  if missing:
    environment.record(workdir)
    for name, result in compute(list(missing)):
      finish(workdir, name, result)
      LOGGER.info("%s: done", name)
  else:
    LOGGER.info("nothing to compute: all parts are in %s", workdir / "parts")
  found = {name: finished(workdir, name) for name in names}
  absent = [name for name, result in found.items() if result is None]
  if absent:
    raise ValueError(f"these parts were not computed: {', '.join(absent)}")
  return found


def claim(config: Any, workdir: files.Path, free: Sequence[str] = ()) -> None:
  """Makes the workdir the config's own (config.json), or checks that it is.

  Raises:
    ConfigError: if it cannot be written, or belongs to another config; names the
      fields that differ. The seeds may, and the fields named `free`.
  """
  workdirs.claim(workdir, config, free=(*FREE_FIELDS, *free))


def finished(workdir: files.Path, name: str) -> dict[str, Any] | None:
  """Returns the result of a finished part, or None."""
  path = _path(workdir, name)
  return files.read_json(path) if path.exists() else None


def finish(workdir: files.Path, name: str, result: Mapping[str, Any]) -> None:
  """Writes the result of a part, whole or not at all.

  Args:
    workdir: the claimed directory of the study.
    name: of letters, digits, `_`, `-` and `.`.
    result: what JSON can hold, without NaN and infinities.
  """
  files.write_json(_path(workdir, name), dict(result))


def write(
  workdir: files.Path, results: Mapping[str, Any], figures: Mapping[str, bytes]
) -> None:
  """Writes results.json and figures/*.png."""
  for name, png in figures.items():
    files.write_bytes(workdir / "figures" / name, png)
  files.write_json(workdir / "results.json", dict(results))
  LOGGER.info("results are in %s", workdir / "results.json")


def _path(workdir, name):
  if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
    raise ValueError(f"a part's name has letters, digits, _, - and ., got {name!r}")
  return workdir / "parts" / f"{name}.json"
