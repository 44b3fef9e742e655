"""The flags that send the stages of a run to workers, or choose some of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
from typing import Any

from absl import flags
import jax

from undo_jax.engines import accelerators
from undo_jax.engines.engine import EngineKind, Settings
from undo_jax.engines.registry import LOCAL, REGISTRY
from undo_jax.running import Run, dispatch, drivers
from undo_jax.running.runs import Elsewhere
from undo_jax.utils import files
from undo_jax.utils.errors import ConfigError

# Where --num_workers=0 chooses: each takes nearly a gigabyte.
MOST_WORKERS = 4


def define() -> None:
  """Define --engine and what engines read, and --stages."""
  known = ", ".join((LOCAL, *REGISTRY))
  flags.DEFINE_string(
    "engine",
    LOCAL,
    f"What runs the stages, {known} or MODULE:NAME: local, this process, one after the "
    "other, or --num_workers processes here; the others give each stage that is ready "
    "to a worker.",
  )
  flags.DEFINE_integer(
    "num_workers",
    None,
    "How many stages run at the same time, at most. Default: 4, or 1 with the engine "
    "local, whose workers share the processors; there 0 stands for as many as there "
    f"are processors, at most {MOST_WORKERS}, and for 1 where there is a GPU or TPU.",
  )
  flags.DEFINE_integer(
    "num_restarts",
    None,
    "How often a stage is restarted after its worker disappeared. Default: 2.",
  )
  flags.DEFINE_string(
    "accelerator",
    None,
    "What a stage takes (ray): v6e:4x4, a TPU slice; h100:8, gpu:8, GPUs of a host; "
    "h100:4x8, of four hosts. Default: cpu:1.",
  )
  flags.DEFINE_string(
    "ray_address",
    None,
    "HOST:PORT of a Ray cluster's head, or auto on a node of it; by default "
    "Ray runs on this machine alone.",
  )
  flags.DEFINE_list(
    "slurm",
    None,
    "NAME=VALUE,...: what a job takes, by submitit's names: nodes=4,gpus_per_node=8,"
    "slurm_partition=NAME,timeout_min=600. cluster=local: jobs on this machine.",
  )
  flags.DEFINE_list(
    "stages",
    None,
    "Run only these stages of the plan, named by stage or by directory, or all, and "
    "write no report; stages that they read must be finished. Workers run this way.",
  )


def stages() -> Sequence[str] | None:
  """Return --stages."""
  return flags.FLAGS["stages"].value


def of_flags(workdir: str) -> Elsewhere | None:
  """Return what runs the stages, by the flags; None: this process.

  Raises:
    ConfigError: if a flag cannot be met.
  """
  name = str(flags.FLAGS["engine"].value)
  given = {flag: flags.FLAGS[flag].value for flag in (*_COUNTS, *_READERS)}
  given = {flag: value for flag, value in given.items() if value is not None}
  if name == LOCAL:
    return _local(given)
  kind = _kind(name)
  _refuse(set(given) - {*_COUNTS, *kind.reads}, f"--engine={name} does not read it")
  _check_alone(name)
  counts = {flag: _count(flag, given.get(flag)) for flag in _COUNTS}
  read: dict[str, Any] = {
    flag: reader(given[flag]) for flag, reader in _READERS.items() if flag in given
  }
  # The chips of this machine are for workers.
  jax.config.update("jax_platforms", "cpu")
  settings = Settings(
    workdir=files.path(workdir), num_workers=counts["num_workers"], **read
  )
  kind.check(settings)
  return functools.partial(_run, kind, settings, counts)


def _local(given: Mapping[str, Any]) -> Elsewhere | None:
  """Return what shares the processors among drivers, if there are to be several."""
  _refuse(set(given) - {*_COUNTS}, "it runs here; give another --engine")
  if given.get("num_workers") == 0:
    is_cpu = jax.default_backend() == "cpu"
    chosen = min(MOST_WORKERS, len(drivers.processors())) if is_cpu else 1
    given = {**given, "num_workers": chosen}
  counts = {flag: _count(flag, given.get(flag)) for flag in _COUNTS}
  counts["num_workers"] = given.get("num_workers", 1)
  if counts["num_workers"] == 1:
    _refuse(set(given) - {"num_workers"}, "one process runs all; give --num_workers")
    return None
  _check_alone(LOCAL)
  drivers.shares(drivers.processors(), counts["num_workers"])
  if (platform := jax.default_backend()) != "cpu":
    raise ConfigError(
      f"--num_workers: expected none with --engine={LOCAL}, which shares processors, "
      f"not the {platform} devices here; --engine=ray gives those out"
    )
  return functools.partial(drivers.run_drivers, **counts)


def _run(
  kind: EngineKind,
  settings: Settings,
  counts: Mapping[str, int],
  runs: Sequence[Run],
  arguments: Sequence[str],
) -> None:
  dispatch.run_elsewhere(runs, kind.open(settings), arguments, **counts)


def _kind(name: str) -> EngineKind:
  try:
    return REGISTRY.get(name)
  except ConfigError as error:
    raise ConfigError(f"--engine: {error}; {LOCAL} is one too") from None


def _refuse(names: Iterable[str], why: str) -> None:
  for name in names:
    raise ConfigError(f"--{name}: expected none with this engine: {why}")


def _check_alone(name: str) -> None:
  """Raise ConfigError if this process is a worker, or one of several."""
  if stages() is not None:
    raise ConfigError(
      f"--stages: expected none beside --engine={name}, which gives them out; leave "
      "out one of both"
    )
  if jax.distributed.is_initialized():
    raise ConfigError(
      f"--distributed: expected none beside --engine={name}, which starts the "
      "processes of each stage; leave it out, and --coordinator_address"
    )


def _count(flag: str, value: int | None) -> int:
  default, smallest = _COUNTS[flag]
  if value is not None and value < smallest:
    raise ConfigError(f"--{flag}: expected at least {smallest}, got {value}")
  return default if value is None else value


def _pairs(texts: Sequence[str]) -> dict[str, str]:
  pairs = [text.partition("=") for text in texts]
  for name, equals, _ in pairs:
    if not name or not equals:
      raise ConfigError(f"--slurm: expected NAME=VALUE,..., got {','.join(texts)!r}")
  return {name: value for name, _, value in pairs}


# The counts that all engines know: what they are if not given, the smallest.
_COUNTS = {"num_workers": (4, 1), "num_restarts": (2, 0)}
# How the other flags, which some engines read, are read.
_READERS: dict[str, Callable[[Any], object]] = {
  "accelerator": accelerators.parse,
  "ray_address": str,
  "slurm": _pairs,
}
