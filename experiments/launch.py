"""How every experiment starts: flags, logging, one clear line on bad input."""

from collections.abc import Callable, Mapping, Sequence
import logging
import pathlib
import sys
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from jax.sharding import Mesh
from ml_collections import config_flags

from undo_jax import environment, running, sources, validation
from undo_jax.stages import Stage
from undo_jax.training import sharding
from undo_jax.types import ConfigError


def define_flags():
  """Defines --config (locked: an unknown field is an error) and --workdir."""
  config = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, its size after a colon: configs/arithmetic.py:tiny.",
    lock_config=True,
  )
  workdir = flags.DEFINE_string("workdir", None, "Directory of the run; all it writes.")
  flags.mark_flags_as_required(["config", "workdir"])
  return config, workdir


def check(config: Any) -> Mesh:
  """Checks a config, before any compute; returns the mesh it asks for."""
  mesh = sharding.make_mesh(**config.mesh)
  validation.check(config, dict(mesh.shape))
  return mesh


def claim(
  config: Any,
  workdir: pathlib.Path,
  mesh: Mesh,
  plan: Sequence[Stage],
  given: Mapping[str, sources.Source] | None = None,
) -> running.Run:
  """Makes the workdir the config's own; returns the run of a plan in it."""
  validation.claim_workdir(workdir, config)
  return running.Run(
    workdir,
    mesh,
    checkpoint_every=config.checkpoint_every,
    evaluation_rows=config.evaluation_rows,
    replicas_at_once=config.replicas_at_once,
    stages=tuple(plan),
    given=given or {},
  )


def run_study(study: Callable[[Any, pathlib.Path], None]) -> None:
  """Runs a study, a function of config and workdir, by its flags."""
  config, workdir = define_flags()
  run(lambda argv: study(config.value, pathlib.Path(str(workdir.value)).resolve()))


def run(main: Callable[[list[str]], None]) -> None:
  """Runs an experiment's main; exit status 2 and one line on a wrong config."""

  def guarded(argv):
    _show_progress()
    environment.keep_freed_memory()
    try:
      main(argv)
    except ConfigError as error:
      _exit(str(error))

  app.run(guarded, flags_parser=_parse)


def _show_progress():
  """Shows our own log lines, and of the libraries only the errors."""
  absl_logging.set_verbosity(absl_logging.ERROR)
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
  logger = logging.getLogger("undo_jax")
  logger.handlers = [handler]
  logger.setLevel(logging.INFO)
  logger.propagate = False


def _parse(argv):
  try:
    rest = flags.FLAGS(argv)
    if "config" in flags.FLAGS:
      bool(flags.FLAGS.config.is_locked)  # A file that failed to load says so here.
    return rest
  # What ml_collections raises on unknown fields, wrong types and missing files.
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as e:
    message = str(e).replace("\\n", " ").replace("\\'", "'").strip("\"'")
    if "Traceback" in message:  # An error in the config file: its last line.
      message = message.strip().splitlines()[-1]
    _exit(message)


def _exit(message):
  print("error:", " ".join(message.split()), file=sys.stderr)
  sys.exit(2)
