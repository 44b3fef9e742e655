"""What an engine is: it starts commands somewhere, and reports how they ended."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Protocol

from undo_jax.engines.accelerators import Accelerator
from undo_jax.utils import files


@dataclasses.dataclass(frozen=True)
class Ended:
  """How a worker ended."""

  # Its exit status, or the negative number of the signal; None: it is gone, or was
  # never there.
  status: int | None
  line: str  # The last that it said, or what is known of its end.


class Worker(Protocol):
  """A command that runs somewhere: one process, or one on each of several hosts."""

  def poll(self) -> Ended | None:
    """Return how it ended; None while it runs or waits for its turn."""
    ...

  def terminate(self) -> None:
    """Tell it to save and end, or not to begin; return at once."""
    ...


class Engine(Protocol):
  """Starts workers."""

  def start(self, name: str, arguments: Sequence[str]) -> Worker:
    """Start a command of undo-jax as soon as there is room for it.

    Args:
      name: what it is called where the engine lists what runs.
      arguments: of undo-jax.
    """
    ...

  def close(self) -> None:
    """End what is left of it."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Where and on what the workers of a run run."""

  workdir: files.Path
  num_workers: int  # At once, at most.
  accelerator: Accelerator | None = None  # What a worker takes.
  ray_address: str | None = None  # Of a cluster; None: one of its own, here.
  slurm: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EngineKind:
  """How an engine is opened: the record of an engine."""

  open: Callable[[Settings], Engine]
  # Raises ConfigError if it is not installed, cannot be reached or a setting is wrong;
  # before anything is written.
  check: Callable[[Settings], None] = lambda settings: None
  # The fields of Settings that it reads beside workdir and num_workers.
  reads: tuple[str, ...] = ()
