"""How a study runs: missing parts are computed, and the results written.

    WORKDIR/config.json command.txt environment.json
    WORKDIR/parts/NAME.json    a finished part, for example one seed
    WORKDIR/results.json figures/*.png

A part is computed once: the same command resumes with the missing parts, and with a
longer list of seeds it computes only the new ones. The workdir belongs to one config,
so that parts of two configs are never mixed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import contextlib
import dataclasses
import functools
import logging
import re
from typing import Any, Generic, NamedTuple, TypeVar

from ml_collections import ConfigDict

from undo_jax.cli import launch
from undo_jax.utils import environment, files, workdirs

LOGGER = logging.getLogger("undo_jax")
# Fields that may differ between runs of a workdir: they choose parts, and change none.
FREE_FIELDS = ("seeds",)
# A value that JSON can hold, without NaN and infinities.
Part = TypeVar("Part", bound=Mapping[str, object])


class Outcome(NamedTuple):
  """The results of all parts."""

  results: Mapping[str, object]  # In a form that JSON can hold.
  figures: Mapping[str, bytes]  # PNG bytes by file name.
  table: str


@dataclasses.dataclass(frozen=True)
class Study(Generic[Part]):
  """A study with its config."""

  parts: Sequence[str]  # Their names, in the order of the results.
  # Yields (name, part) of the given names, one by one as they are finished.
  compute: Callable[[Sequence[str]], Iterable[tuple[str, Part]]]
  finish: Callable[[Mapping[str, Part]], Outcome]  # From all parts by name.
  # Top-level fields of the config, beside the seeds, that choose which parts there are
  # or how they are computed, and do not change their results.
  free: Sequence[str] = ()


def seed_parts(seeds: Sequence[int]) -> dict[str, int]:
  """Return the seeds by the names of their parts, for studies with a part per seed."""
  return {f"seed_{seed}": seed for seed in seeds}


def main(make: Callable[[ConfigDict], Study]) -> None:
  """Run a study by the flags --config and --workdir; see `run`."""
  launch.run_study(functools.partial(run, make))


def run(
  make: Callable[[ConfigDict], Study], config: ConfigDict, workdir: files.Path
) -> None:
  """Compute the missing parts of a study, write the results, print the table.

  Args:
    make: (config) -> study; raises ConfigError if the config cannot work.
    config: the whole ConfigDict, to which the workdir will belong.
    workdir: where everything is written.

  Raises:
    ConfigError: before any compute, if the config cannot work or the workdir belongs to
      another one.
  """
  study = make(config)
  with contextlib.closing(workdirs.Hold(workdir)) as hold:
    hold.take()
    workdirs.claim(workdir, config, free=(*FREE_FIELDS, *study.free))
    outcome = study.finish(run_parts(study, workdir))
    for name, png in outcome.figures.items():
      files.write_bytes(workdir / "figures" / name, png)
    files.write_json(workdir / "results.json", outcome.results)
  LOGGER.info("results are in %s", workdir / "results.json")
  print(outcome.table)


def run_parts(study: Study[Part], workdir: files.Path) -> dict[str, Part]:
  """Compute the parts of a study that are not finished; return all of them.

  Each part is on disk before the next one is computed.

  Args:
    study: what to compute.
    workdir: the study's directory, already claimed.

  Returns:
    The parts by name, as read back from JSON.

  Raises:
    ConfigError: if a finished part is damaged; names its file.
    ValueError: if `compute` does not yield the missing parts.
  """
  missing = [name for name in study.parts if not _path(workdir, name).exists()]
  if missing:
    environment.record(workdir)
    for name, part in study.compute(missing):
      files.write_record(_path(workdir, name), files.plain(dict(part)))
      LOGGER.info("%s: done", name)
  else:
    LOGGER.info("nothing to compute: all parts are in %s", workdir / "parts")
  absent = [name for name in study.parts if not _path(workdir, name).exists()]
  if absent:
    raise ValueError(f"these parts were not computed: {', '.join(absent)}")
  parts: Any = {n: files.read_record(_path(workdir, n)) for n in study.parts}
  return parts


def _path(workdir: files.Path, name: str) -> files.Path:
  if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
    raise ValueError(f"a part's name has letters, digits, _, - and ., got {name!r}")
  return workdir / "parts" / f"{name}.json"
