"""A profiler's trace of chosen updates of a stage."""

import logging
import pathlib

import jax

from undo_jax.utils.types import ConfigError

LOGGER = logging.getLogger("undo_jax")


def parse_steps(text: str) -> tuple[int, int]:
  """Return the first and the last update of "START:END".

  Raises:
    ConfigError: if the text is no such pair, or START is below 1 or above END.
  """
  first, _, last = text.partition(":")
  if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
    raise ConfigError(
      f"--profile_steps: expected START:END, updates from 1 on, got {text!r}; for "
      "example 10:12"
    )
  return int(first), int(last)


class Profiler:
  """Traces the updates first to last of a stage; TensorBoard and XProf open it."""

  def __init__(self, directory: pathlib.Path, steps: tuple[int, int] | None):
    """Take where the trace goes, and which updates; None: no trace."""
    self._directory, self._steps = directory, steps
    self._running = False

  def before(self, update: int) -> None:
    """Start the trace if it starts with this update (the first is 1)."""
    if self._steps and update == self._steps[0]:
      jax.profiler.start_trace(str(self._directory))
      self._running = True

  def after(self, update: int, result: object) -> None:
    """End the trace if it ends with this update, once its result is there."""
    if self._steps and update == self._steps[1]:
      jax.block_until_ready(result)
      self.close()

  def close(self) -> None:
    """End a trace that runs still."""
    if self._running:
      jax.profiler.stop_trace()
      self._running = False
      LOGGER.info(
        "a trace of updates %d to %d: %s", *self._steps or (), self._directory
      )
