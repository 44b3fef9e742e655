"""Ray: each worker is a task in a process of its own, or a gang on several hosts.

A stage of one host is one task that takes its chips. Of several hosts, one task runs on
each, placed together: TPU slices as Ray reserves them (ray.util.tpu), GPUs by a
placement group. The first host is where the processes meet.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any
import warnings

from undo_jax.engines import worker
from undo_jax.engines.accelerators import Accelerator
from undo_jax.engines.engine import Ended, EngineKind, Settings
from undo_jax.engines.slurm_jobs import worst
from undo_jax.utils import extras
from undo_jax.utils.errors import ConfigError

LOGGER = logging.getLogger("undo_jax")
ADDRESS_SECONDS = 10  # Until an address has answered.
# Until the others of a gang, one of which is gone, have ended by themselves.
GANG_SECONDS = 20.0
_NOT_BEGUN = Ended(75, "told to end before it began")
# What Ray calls those that have another name there.
_RAY_NAMES = {"v5e": "v5litepod"}


class RayTasks:
  """The engine; see engine.Engine."""

  def __init__(self, settings: Settings):
    """Connect to the cluster, or start one here.

    Raises:
      ConfigError: if this machine cannot use the cluster.
    """
    import ray  # pyright: ignore

    self._ray = ray
    self._accelerator = settings.accelerator or Accelerator("cpu", "1x1")
    quiet = {"log_to_driver": True, "logging_level": logging.ERROR}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
      # Ray forks, to execute its own programs at once; JAX warns of what would not.
      warnings.simplefilter("ignore", RuntimeWarning)
      if settings.ray_address is None:
        # CPUs are counted, not divided: as many as there may be workers.
        count = settings.num_workers * _num_cpus(self._accelerator)
        ray.init(include_dashboard=False, num_cpus=count, **quiet)
      else:
        try:
          ray.init(address=settings.ray_address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
          raise _no_answer(settings.ray_address, str(error)) from None
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own there.

  def start(self, name: str, arguments: Sequence[str]) -> "Tasks":
    """Start the tasks of a worker as soon as there is room."""
    return Tasks(self._ray, name, arguments, self._accelerator)

  def close(self) -> None:
    """Leave the cluster; one that was started here ends."""
    self._ray.shutdown()


class Tasks:
  """A worker; see engine.Worker. A thread waits for its place, and for its end."""

  def __init__(
    self, ray: Any, name: str, arguments: Sequence[str], accelerator: Accelerator
  ):
    self._ray, self._name, self._arguments = ray, name, [*arguments]
    self._accelerator = accelerator
    self._references: list[Any] = []
    self._ended: Ended | None = None
    self._is_told, self._lock = False, threading.Lock()
    threading.Thread(target=self._run, daemon=True).start()

  def poll(self) -> Ended | None:
    """Return how it ended."""
    return self._ended

  def terminate(self) -> None:
    """Tell its processes to save and end."""
    with self._lock:
      self._is_told = True
      references = list(self._references)
    if not references:  # It may wait for its place for long.
      self._ended = self._ended or _NOT_BEGUN
    for reference in references:
      self._ray.cancel(reference, force=False)

  def _run(self) -> None:
    try:
      with self._placed() as options:
        self._ended = self._run_placed(options)
    except Exception as error:  # noqa: BLE001  Whatever comes back from the cluster.
      self._ended = Ended(None, _first_line(error))

  def _run_placed(self, options: Sequence[dict[str, Any]]) -> Ended:
    """Run a task with each of some options, and wait for all."""
    commands = [self._arguments]
    if len(options) > 1:
      options, address = self._meeting(options)
      where = [f"--coordinator_address={address}", f"--num_processes={len(options)}"]
      commands = [
        [*self._arguments, *where, f"--process_id={i}"] for i in range(len(options))
      ]
    task = self._ray.remote(max_retries=0, max_calls=1)(worker.run)
    with self._lock:
      if self._is_told:
        return _NOT_BEGUN
      self._references = [
        task.options(name=self._name, **how).remote(json.dumps(command))
        for how, command in zip(options, commands, strict=True)
      ]
    self._wait()
    return worst([self._result(reference) for reference in self._references])

  def _wait(self) -> None:
    """Wait for all tasks; where one is gone, the others are not waited for long."""
    left, deadlines = self._references, list[float]()
    while left:
      ended, left = self._ray.wait(left, num_returns=len(left), timeout=0.5)
      if ended and left and not deadlines:
        deadlines = [time.monotonic() + GANG_SECONDS * n for n in (1, 2)]
      if deadlines and time.monotonic() > deadlines[0] and left:
        deadlines.pop(0)
        deadlines = deadlines or [float("inf")]
        for reference in left:  # Told to save; the second time killed.
          self._ray.cancel(reference, force=False)

  def _result(self, reference: Any) -> dict[str, Any]:
    try:
      return json.loads(self._ray.get(reference))
    except self._ray.exceptions.TaskCancelledError:
      return dataclasses.asdict(_NOT_BEGUN)
    except self._ray.exceptions.RayError as error:
      return {"status": None, "line": _first_line(error)}

  def _meeting(
    self, options: Sequence[dict[str, Any]]
  ) -> tuple[list[dict[str, Any]], str]:
    """Return the options in the order of a slice's hosts, and the first's address."""
    task = self._ray.remote(max_retries=3)(_where)
    replies = self._ray.get([task.options(**how).remote() for how in options])
    labels = {node["NodeID"]: node.get("Labels") or {} for node in self._ray.nodes()}
    nodes, addresses = zip(*map(json.loads, replies), strict=True)

    def rank(index: int) -> int:
      return int(labels[nodes[index]].get("ray.io/tpu-worker-id") or 0)

    order = sorted(range(len(options)), key=rank)
    return [options[i] for i in order], addresses[order[0]]

  @contextlib.contextmanager
  def _placed(self) -> Iterator[list[dict[str, Any]]]:
    """Give the options of each host's task, while what they take is reserved."""
    accelerator = self._accelerator
    if accelerator.is_tpu:
      from ray.util import tpu  # pyright: ignore

      group = tpu.slice_placement_group(
        topology=accelerator.shape,
        accelerator_version=_RAY_NAMES.get(accelerator.kind, accelerator.kind),
        head_reservation_timeout_s=None,
      )
      try:
        bundle, placed = group.bundle_resources, group.placement_group
        yield self._in_group(placed, [bundle] * group.num_bundles)
      finally:
        group.shutdown()
    elif accelerator.num_hosts == 1:
      yield [_options(_resources(accelerator))]
    else:
      bundles = [_resources(accelerator)] * accelerator.num_hosts
      group = self._ray.util.placement_group(bundles, strategy="SPREAD")
      try:
        yield self._in_group(group, bundles)
      finally:
        self._ray.util.remove_placement_group(group)

  def _in_group(
    self, group: Any, bundles: Sequence[dict[str, float]]
  ) -> list[dict[str, Any]]:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy  # pyright: ignore

    self._ray.get(group.ready())
    return [
      {
        **_options(bundle),
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
          placement_group=group, placement_group_bundle_index=index
        ),
      }
      for index, bundle in enumerate(bundles)
    ]


def _where() -> str:
  """Return JSON of the node that this runs on, and an address to meet at."""
  import ray  # pyright: ignore

  place = json.loads(worker.where())
  node = ray.get_runtime_context().get_node_id()
  return json.dumps([node, f"{place['address']}:{place['port']}"])


def _num_cpus(accelerator: Accelerator) -> int:
  """Return how many CPUs a worker counts for."""
  if accelerator.is_tpu:
    return 1
  per_host = accelerator.per_host if accelerator.kind == "cpu" else 1
  return accelerator.num_hosts * per_host


def _resources(accelerator: Accelerator) -> dict[str, float]:
  """Return what a worker takes of each host, TPUs aside."""
  if accelerator.kind == "cpu":
    return {"CPU": accelerator.per_host}
  kind = {f"accelerator_type:{accelerator.kind.upper()}": 0.001}
  gpus: dict[str, float] = {"CPU": 1, "GPU": accelerator.per_host}
  return gpus if accelerator.kind == "gpu" else gpus | kind


def _options(resources: dict[str, float]) -> dict[str, Any]:
  """Return a task's options for what it takes."""
  others = {k: v for k, v in resources.items() if k not in ("CPU", "GPU")}
  return {
    "num_cpus": resources.get("CPU", 0),
    "num_gpus": resources.get("GPU", 0),
    "resources": others,
  }


def check(settings: Settings) -> None:
  """Raise ConfigError if Ray is not installed, or no Ray answers at the address.

  ray.init would wait forever if something else answers there.
  """
  for variable in ("RAY_USAGE_STATS_ENABLED", "RAY_DEDUP_LOGS"):
    os.environ.setdefault(variable, "0")  # It reads them when it is imported.
  try:
    import ray  # noqa: F401  # pyright: ignore
  except ImportError as error:
    raise extras.needed("ray", error) from None
  address = settings.ray_address
  if address is None or address == "auto" or "://" in address:
    return
  host, _, port = address.rpartition(":")
  try:
    socket.create_connection((host, int(port)), timeout=ADDRESS_SECONDS / 2).close()
  except (OSError, ValueError, OverflowError) as error:
    raise _no_answer(address, str(error)) from None
  command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
  command += ["--address", address, "--skip-version-check"]
  try:
    process = subprocess.run(  # noqa: S603  A list of arguments, and no shell.
      command, capture_output=True, text=True, timeout=ADDRESS_SECONDS
    )
  except subprocess.TimeoutExpired:
    raise _no_answer(address, f"nothing in {ADDRESS_SECONDS} s") from None
  if process.returncode:
    raise _no_answer(address, (process.stderr.strip() or "nothing").split("\n")[-1])


def _no_answer(address: str, got: str) -> ConfigError:
  return ConfigError(
    f"--ray_address={address}: expected a Ray cluster to answer there, got "
    f"{got.split(chr(10))[0]}; give HOST:PORT of its head, auto on a node of it, or "
    "leave it out to run on this machine"
  )


def _first_line(error: BaseException) -> str:
  return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"


ENGINE = EngineKind(open=RayTasks, check=check, reads=("accelerator", "ray_address"))
