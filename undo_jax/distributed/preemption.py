"""SIGTERM: the machine is taken away soon, so save and end.

Any process may be told; all of them end after the same update. JAX's own
`reached_preemption_sync_point` is not used, since Orbax asks it at every save with
numbers of a stage's updates, and it needs numbers that only grow, over all stages.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import signal
import sys

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

# Of a process that has saved and can be started again: EX_TEMPFAIL of sysexits.h.
EXIT_STATUS = 75


class Preempted(Exception):  # noqa: N818
  """SIGTERM came, and all that was computed is saved."""


class _Notice:
  """What the signal handler leaves; signals are the process's, so there is one."""

  received = False
  deferred = False
  conditions: tuple[Callable[[], bool], ...] = ()  # Of `also`.


def listen() -> None:
  """From now on SIGTERM ends the process by EXIT_STATUS; see `deferred`."""
  _Notice.received = _Notice.deferred = False
  signal.signal(signal.SIGTERM, _handle)


def _handle(number, frame):
  del number, frame
  _Notice.received = True
  _end_if_told()


def _end_if_told() -> None:
  # Of several processes none may leave the others alone in a collective.
  if _Notice.received and not _Notice.deferred and jax.process_count() == 1:
    sys.exit(EXIT_STATUS)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
  """Inside, SIGTERM is only noted: whoever runs must ask, save and raise Preempted."""
  before, _Notice.deferred = _Notice.deferred, True
  try:
    yield
  finally:
    _Notice.deferred = before


@contextlib.contextmanager
def also(is_over: Callable[[], bool]) -> Iterator[None]:
  """Inside, whoever asks for SIGTERM is told so too where `is_over` says it."""
  before = _Notice.conditions
  _Notice.conditions = (*before, is_over)
  try:
    yield
  finally:
    _Notice.conditions = before


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
  """Inside, SIGTERM waits: for code that takes SystemExit for an error of its own.

  Orbax does, which reads and writes in an event loop.
  """
  with deferred():
    yield
  _end_if_told()


def ask() -> Callable[[], bool]:
  """Ask all processes, at the same place of each, whether SIGTERM has come to one.

  Returns:
    A function that waits for the answer, the same in all processes. The question
    is queued behind what the devices compute, so nothing waits for it meanwhile.
  """
  noted = _Notice.received or any(is_over() for is_over in _Notice.conditions)
  if jax.process_count() == 1:
    return lambda: noted
  everywhere, any_of = _agreement()
  flags = jax.make_array_from_callback(
    (jax.device_count(),), everywhere, lambda index: np.array([noted])
  )
  answer = any_of(flags)
  return lambda: bool(answer)


def check(finish: Callable[[], object] = lambda: None) -> None:
  """Raise Preempted if SIGTERM has come to any process; called by all of them.

  Before that, `finish` is called.
  """
  if ask()():
    finish()
    raise Preempted("stopped by SIGTERM")


@functools.cache
def _agreement():
  mesh = Mesh(np.asarray(jax.devices()), ("all",))
  replicated = NamedSharding(mesh, P())
  return NamedSharding(mesh, P("all")), jax.jit(jnp.any, out_shardings=replicated)
