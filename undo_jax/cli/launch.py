"""The flags of a run: its config, its directory, and how it is computed."""

from collections.abc import Callable
import sys
from typing import Any

from absl import flags
from ml_collections import config_dict

from undo_jax.cli import overrides, process
from undo_jax.frontier import search_results
from undo_jax.plan.config import plain
from undo_jax.training import profiling
from undo_jax.utils import files


def define_flags() -> tuple[
  flags.FlagHolder[config_dict.ConfigDict], flags.FlagHolder[str | None]
]:
  """Define --config, --workdir and how the run is computed; return the first two."""
  config = overrides.define()
  workdir = flags.DEFINE_string(
    "workdir",
    None,
    "Directory for everything that the run writes, or gs://BUCKET/NAME.",
  )
  flags.mark_flag_as_required("workdir")
  process.define_distributed()
  flags.DEFINE_string(
    "profile_steps",
    None,
    "START:END, updates of each stage to trace with the profiler.",
  )
  return config, workdir


def define_dry_run() -> flags.FlagHolder[bool]:
  """Define --dry_run and return it."""
  return flags.DEFINE_bool(
    "dry_run",
    False,
    "Check the config, compile the programs, print the stages, their time and memory, "
    "and end, with an error if the devices have too little memory free. Nothing is "
    "written.",
  )


def define_chosen() -> flags.FlagHolder[str | None]:
  """Define --chosen and return it."""
  return flags.DEFINE_string(
    "chosen",
    None,
    "A search.json of undo-jax search, whose chosen values the models get.",
  )


def chosen(
  config: Any, file: str | None
) -> tuple[Any, search_results.SearchResults | None]:
  """Return a config with the values that a search chose, and the search."""
  if file is None:
    return config, None
  searched = search_results.read(files.path(file))
  return search_results.apply(plain(config), searched), searched


def profile_steps() -> tuple[int, int] | None:
  """Return the updates of each stage that are to be traced, if any are."""
  if "profile_steps" not in flags.FLAGS:
    return None
  steps = flags.FLAGS["profile_steps"].value
  return None if steps is None else profiling.parse_steps(steps)


def run_study(study: Callable[[Any, files.Path], None]) -> None:
  """Run a study, a function of config and workdir, by its flags."""
  config, workdir = define_flags()
  process.run(
    lambda argv: study(config.value, files.path(str(workdir.value))),
    page=sys.modules["__main__"].__doc__ or "",
  )
