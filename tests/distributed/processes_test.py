"""What one process does for all, where there is but one."""

import pytest

from undo_jax.distributed import processes
from undo_jax.utils.types import ConfigError


def test_a_single_process_is_the_first_and_does_it_itself():
  assert processes.is_first()
  value = {"rows": [1, 2]}
  assert processes.on_first("rows", lambda: value) is value

  def fail():
    raise ConfigError("no rows")

  with pytest.raises(ConfigError, match="^no rows$"):
    processes.on_first("rows", fail)


@pytest.mark.parametrize("value", [{"a": [1, None, "é"]}, {}, "", "x" * 3000])
def test_what_is_sent_comes_back_whole(value):
  assert processes._broadcast(value) == value


def test_meetings_of_one_name_do_not_meet_each_other():
  for _ in range(2):
    processes.wait("again")


def test_where_no_cluster_is_known_the_flags_are_named(monkeypatch):
  def unknown(*where):
    assert where == (None, None, None)
    raise ValueError("coordinator_address should be defined.\nMore.")

  monkeypatch.setattr(processes.jax.distributed, "initialize", unknown)
  message = "^--distributed: coordinator_address should be defined. This is no cluster"
  with pytest.raises(ConfigError, match=message) as error:
    processes.initialize()
  assert "--process_id" in str(error.value) and "\n" not in str(error.value)
