"""How every experiment starts: flags, processes, logging, how it ends.

Exit status: 0 done; 1 training diverged, 2 a wrong config or flag, both with one line
that says why; 75 (EX_TEMPFAIL) stopped by SIGTERM with everything saved, to be started
again.
"""

from collections.abc import Callable, Mapping, Sequence
import logging
import sys
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
import jax
from jax.sharding import Mesh
from ml_collections import config_flags

from undo_jax import running, validation
from undo_jax.checkpoints import sources
from undo_jax.distributed import preemption, processes, sharding
from undo_jax.stages import Stage
from undo_jax.training import profiling
from undo_jax.utils import environment, files
from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")


_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Run as one of several processes, of which the cluster's environment tells (Cloud "
  "TPU, Slurm, Open MPI, Kubernetes); or else the next flags, any of which implies it.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "HOST:PORT of the first process."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which this one is, from 0.")
_PROFILE_STEPS = flags.DEFINE_string(
  "profile_steps", None, "START:END, updates of each stage to trace with the profiler."
)


def define_flags():
  """Defines --config (locked: an unknown field is an error) and --workdir."""
  config = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, its size after a colon: configs/arithmetic.py:tiny.",
    lock_config=True,
  )
  workdir = flags.DEFINE_string(
    "workdir",
    None,
    "Directory of the run; all it writes. Or gs://BUCKET/NAME; all processes share it.",
  )
  flags.mark_flags_as_required(["config", "workdir"])
  return config, workdir


def check(config: Any) -> Mesh:
  """Checks a config, before any compute; returns the mesh it asks for."""
  mesh = sharding.make_mesh(**config.mesh)
  validation.check(config, dict(mesh.shape))
  return mesh


def claim(
  config: Any,
  workdir: files.Path,
  mesh: Mesh,
  plan: Sequence[Stage],
  given: Mapping[str, sources.Source] | None = None,
) -> running.Run:
  """Makes the workdir the config's own; returns the run of a plan in it."""
  processes.on_first("claim", lambda: validation.claim_workdir(workdir, config))
  if not (workdir / "config.json").exists():
    raise ConfigError(
      f"--workdir must be a directory that all processes share, got {workdir}, which "
      f"process {jax.process_index()} does not see; give one on a shared disk or in a "
      "store"
    )
  steps = _PROFILE_STEPS.value
  return running.Run(
    workdir,
    mesh,
    checkpoint_every=config.checkpoint_every,
    evaluation_rows=config.evaluation_rows,
    replicas_at_once=config.replicas_at_once,
    stages=tuple(plan),
    given=given or {},
    max_loss=config.max_loss,
    profile_steps=None if steps is None else profiling.parse_steps(steps),
  )


def run_study(study: Callable[[Any, files.Path], None]) -> None:
  """Runs a study, a function of config and workdir, by its flags."""
  config, workdir = define_flags()
  run(lambda argv: study(config.value, files.path(str(workdir.value))))


def run(main: Callable[[list[str]], None]) -> None:
  """Runs an experiment's main; exit status 2 and one line on a wrong config."""

  def guarded(argv):
    _show_progress()
    environment.keep_freed_memory()
    try:
      _meet()
      preemption.listen()
      main(argv)
    except ConfigError as error:
      _exit(str(error))
    except FloatingPointError as error:
      _exit(str(error), status=1)
    except preemption.Preempted as error:
      LOGGER.info("%s; the same command goes on from there", error)
      sys.exit(preemption.EXIT_STATUS)

  app.run(guarded, flags_parser=_parse)


def _meet():
  """Makes this process one of several, if the flags say so."""
  where = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  if not _DISTRIBUTED.value and where == (None, None, None):
    return
  processes.initialize(*where)
  if not processes.is_first():
    LOGGER.setLevel(logging.WARNING)


def _show_progress():
  """Shows our own log lines, and of the libraries only the errors."""
  absl_logging.set_verbosity(absl_logging.ERROR)
  handler = logging.StreamHandler(sys.stderr)
  handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
  LOGGER.handlers = [handler]
  LOGGER.setLevel(logging.INFO)
  LOGGER.propagate = False


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


def _exit(message, *, status=2):
  print("error:", " ".join(message.split()), file=sys.stderr)
  sys.exit(status)
