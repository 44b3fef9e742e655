"""SIGTERM: noted where it must wait, the end of the process where it need not."""

import os
import signal

import pytest

from undo_jax.distributed import preemption


@pytest.fixture(autouse=True)
def listening():
  before = signal.getsignal(signal.SIGTERM)
  preemption.listen()
  yield
  preemption.listen()
  signal.signal(signal.SIGTERM, before)


def terminate():
  os.kill(os.getpid(), signal.SIGTERM)
  signal.sigtimedwait([], 1)  # Python handles it before its next line.


def test_nothing_is_to_be_done_before_a_signal():
  assert not preemption.ask()()
  preemption.check()


def test_a_deferred_signal_is_told_to_who_asks_after_it():
  with preemption.deferred():
    asked_before = preemption.ask()
    terminate()
    assert preemption.ask()() and not asked_before()
    with pytest.raises(preemption.Preempted, match="stopped by SIGTERM"):
      preemption.check()


def test_a_signal_ends_the_process_once_nothing_defers_it():
  with preemption.deferred():
    with preemption.deferred():
      pass
    terminate()  # The outer one still holds.
  with pytest.raises(SystemExit) as status:
    terminate()
  assert status.value.code == preemption.EXIT_STATUS == 75


def test_a_signal_waits_for_what_may_not_be_interrupted_and_ends_the_process_after_it():
  done = []
  with pytest.raises(SystemExit) as status, preemption.uninterrupted():
    terminate()
    done.append("all")
  assert done and status.value.code == 75


def test_a_deferred_signal_is_left_to_who_asks_by_what_may_not_be_interrupted():
  with preemption.deferred():
    with preemption.uninterrupted():
      terminate()
    assert preemption.ask()()
