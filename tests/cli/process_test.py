"""How commands end: the exit status and the one line that says why."""

import errno
import os

from absl import logging as absl_logging
import pytest

from undo_jax.cli import process
from undo_jax.distributed import preemption
from undo_jax.utils.errors import ConfigError


@pytest.mark.parametrize(
  "error, status, message",
  [
    (ConfigError("x:\n y"), 2, "error: x: y\n"),
    # A tensor's name may clear the screen, or turn what follows around.
    (ConfigError("a\x1b[2J \u202eb 한"), 2, "error: a\\x1b[2J \\u202eb 한\n"),
    (FloatingPointError("the loss is nan"), 1, "error: the loss is nan\n"),
    (
      ModuleNotFoundError("No module named 'grain.python'", name="grain.python"),
      2,
      "error: No module named 'grain.python'; what this needs comes by pip install "
      "'undo-jax[data]'\n",
    ),
    (preemption.Preempted("stopped"), 75, ""),
    (
      OSError(errno.EROFS, os.strerror(errno.EROFS), "/a"),
      2,
      "error: /a: Read-only file system; give a path that can be written, and give the "
      "same command again: what is saved is not lost\n",
    ),
  ],
)
def test_the_exit_status_says_how_a_command_ended(capsys, error, status, message):
  with pytest.raises(SystemExit) as stopped, process.one_line():
    raise error
  assert stopped.value.code == status
  assert capsys.readouterr().err == message


def test_what_is_no_library_of_an_extra_is_not_hidden():
  with pytest.raises(ModuleNotFoundError), process.one_line():
    raise ModuleNotFoundError("No module named 'numpi'", name="numpi")


def test_tracebacks_of_refusals_are_left_to_the_one_line(caplog, monkeypatch):
  logger = absl_logging.get_absl_logger()
  monkeypatch.setattr(logger, "filters", [process._is_other_than_refusal])
  monkeypatch.setattr(logger, "propagate", True)
  for error in (OSError(errno.ENOSPC, "full", "/a"), ValueError("other")):
    try:
      raise error
    except (OSError, ValueError):
      absl_logging.exception("a thread ended")
  absl_logging.error("no traceback")
  said = [record.exc_info and str(record.exc_info[1]) for record in caplog.records]
  assert said == ["other", None]


def test_what_is_no_refusal_of_the_machine_is_not_hidden():
  with pytest.raises(FileNotFoundError), process.one_line():
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/a")
