"""Several processes as one run: where they meet, what one does for all of them.

Every process runs the same program on its own devices, and they share a workdir.
What is written once, the first process writes.
"""

from collections.abc import Callable
import itertools
import json
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np
from orbax.checkpoint import multihost

from undo_jax.utils.types import ConfigError, JsonObject

# The others wait this long for what the first one does: tokenizing a corpus, say.
LONGEST_SECONDS = 24 * 3600
_MEETINGS = itertools.count()


def initialize(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Make this process one of a run's; before any other use of JAX.

  Args:
    coordinator_address: host:port where the first process listens.
    num_processes: of the run.
    process_id: of this one, counted from 0.

  What is None comes from the cluster's environment: Cloud TPU, Slurm, Open MPI,
  Kubernetes, see jax.distributed.initialize.

  Raises:
    ConfigError: if the environment does not say it either.
  """
  try:
    jax.distributed.initialize(coordinator_address, num_processes, process_id)
  except ValueError as error:
    raise ConfigError(
      f"--distributed: {str(error).split(chr(10))[0]} This is no cluster whose "
      "environment JAX knows; give --coordinator_address=HOST:PORT, --num_processes "
      "and --process_id, and another --process_id to each process"
    ) from None


def is_first() -> bool:
  """Whether this is the process that writes what is written once."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Return when every process has come here.

  Not by a collective of the devices: those end with an error where one process is
  minutes later than the others.
  """
  meet = multihost.get_barrier_sync_fn()
  # Numbered, since a name is good for one meeting only.
  key = f"undo_jax_{next(_MEETINGS)}_{name}"
  meet(key=key, timeout_ms=LONGEST_SECONDS * 1000)


def on_first(name: str, fn: Callable[[], Any]) -> Any:
  """Call `fn` in the first process; return its result in all of them.

  Args:
    name: of what is done, for the barrier.
    fn: its result is JSON.

  Raises:
    ConfigError: in all processes, if `fn` raises it.
  """
  if jax.process_count() == 1:
    return fn()
  outcome: JsonObject = {}
  if is_first():
    try:
      outcome = {"value": fn()}
    except ConfigError as error:
      outcome = {"error": str(error)}
  wait(name)
  outcome = _broadcast(outcome)
  if "error" in outcome:
    raise ConfigError(outcome["error"])
  return outcome["value"]


def _broadcast(value: object) -> Any:
  """Return the first process's JSON value."""
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  # Arrays must have one size in all processes.
  size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
  buffer = np.zeros(size, np.uint8)
  if is_first():
    buffer[:] = data
  sent = np.asarray(multihost_utils.broadcast_one_to_all(buffer), np.uint8)
  return json.loads(sent.tobytes())
