"""Files of a study: what it is, what is finished, what came out.

    WORKDIR/config.json command.txt environment.json
    WORKDIR/parts/NAME.json    a finished part, for example one seed
    WORKDIR/results.json figures/*.png

A part is computed once: the same command resumes with those that are missing, and a
longer list of seeds computes only the new ones. The workdir belongs to one config,
so that parts of two configs never meet.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import logging
import re
from typing import Any

from undo_jax import environment, files, workdirs

LOGGER = logging.getLogger("undo_jax")
# What may differ between the runs of one workdir: which parts, not what they are.
FREE_FIELDS = ("seeds",)
# A study gives the parts it was asked for one by one, as they are finished.
Compute = Callable[[list[str]], Iterable[tuple[str, Mapping[str, Any]]]]


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
