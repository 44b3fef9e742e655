"""Slurm: each worker is a job of submitit, on one or several hosts.

submitit keeps what it sends and what comes back in WORKDIR/slurm: a function's name and
strings.
"""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import re
import signal
import tempfile
from typing import Any

from undo_jax.engines import worker
from undo_jax.engines.engine import Ended, EngineKind, Settings
from undo_jax.utils import extras
from undo_jax.utils.errors import ConfigError

# Of --slurm beside submitit's own: slurm, or local to try it on this machine.
CLUSTER = "cluster"
# submitit's default is minutes; where a partition allows less, --slurm says so.
DEFAULTS: Mapping[str, int] = {"timeout_min": 24 * 60}


class SlurmJobs:
  """The engine; see engine.Engine."""

  def __init__(self, settings: Settings):
    """Find the cluster."""
    self._executor = _executor(settings, str(settings.workdir / "slurm"))
    parameters = _parameters(settings)
    hosts = parameters.get("nodes", 1), parameters.get("tasks_per_node", 1)
    self._is_gang = hosts != (1, 1)

  def start(self, name: str, arguments: Sequence[str]) -> "Job":
    """Submit a command."""
    # JAX reads from Slurm's environment where its processes are.
    more = ["--distributed"] if self._is_gang else []
    self._executor.update_parameters(name=re.sub(r"[^\w.+-]", "_", name))
    job = self._executor.submit(worker.run, json.dumps([*arguments, *more]))
    return Job(job, is_local=self._executor.cluster == "local")

  def close(self) -> None:
    """Leave the jobs to the cluster."""


def check(settings: Settings) -> None:
  """Raise ConfigError if there is no cluster, or a parameter is none of submitit's."""
  if not isinstance(settings.workdir, pathlib.Path):
    raise ConfigError(
      "--engine=slurm needs a --workdir on a disk that the cluster shares, got "
      f"{settings.workdir}"
    )
  try:
    with tempfile.TemporaryDirectory() as folder:
      _executor(settings, folder)
  except ImportError as error:
    raise extras.needed("slurm", error) from None
  except (RuntimeError, ValueError, NameError, AssertionError) as error:
    reason = " ".join(str(error).split())
    raise ConfigError(
      f"--engine=slurm: {reason}; --slurm takes submitit's parameters, such as "
      "--slurm=gpus_per_node=8,slurm_partition=NAME, and cluster=local to try it here"
    ) from None


def _executor(settings: Settings, folder: str) -> Any:
  import submitit

  executor = submitit.AutoExecutor(folder, settings.slurm.get(CLUSTER, "slurm"))
  executor.update_parameters(**_parameters(settings))
  return executor


def _parameters(settings: Settings) -> dict[str, Any]:
  given = {name: _typed(x) for name, x in settings.slurm.items() if name != CLUSTER}
  return {**DEFAULTS, **given}


class Job:
  """A worker; see engine.Worker."""

  def __init__(self, job: Any, *, is_local: bool):
    self._job, self._is_local = job, is_local

  def poll(self) -> Ended | None:
    """Return how the job ended."""
    if not self._job.done():
      return None
    try:
      results = [json.loads(result) for result in self._job.results()]
    except Exception as error:  # noqa: BLE001  Whatever came back from the job.
      lines = str(error).split("\n")
      return Ended(None, f"job {self._job.job_id}: {lines[0]} {lines[-1]}".strip())
    return worst(results)

  def terminate(self) -> None:
    """Tell the job to save and end."""
    if self._is_local:  # Cancelling would kill it; its number is its process's.
      os.kill(int(self._job.job_id), signal.SIGTERM)
    else:
      self._job.cancel()


def worst(results: Sequence[Mapping[str, Any]]) -> Ended:
  """Return how a worker's processes ended, by the one that says most.

  A process with an error names it; the others only end because that one is gone.
  """

  def rank(result: Mapping[str, Any]) -> int:
    status = result["status"]
    if status in (1, 2) and result["line"].startswith("error: "):
      return 0
    return {0: 3, 75: 2}.get(status, 1)

  first = min(results, key=rank)
  return Ended(first["status"], first["line"])


def _typed(text: str) -> int | str:
  return int(text) if re.fullmatch(r"-?\d+", text) else text


ENGINE = EngineKind(open=SlurmJobs, check=check, reads=("slurm",))
