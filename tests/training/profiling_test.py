"""A profiler's trace of chosen updates."""

import jax
import jax.numpy as jnp
import pytest

from undo_jax.training.profiling import Profiler, parse_steps
from undo_jax.utils.types import ConfigError


def test_chosen_updates_are_traced(tmp_path):
  profiler = Profiler(tmp_path, parse_steps("2:3"))
  traces = []
  for update in range(1, 5):
    profiler.before(update)
    profiler.after(update, jax.jit(jnp.sum)(jnp.ones(8)))
    traces.append(len(list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))))
  assert traces == [0, 0, 1, 1]


@pytest.mark.parametrize("text", ["", "3", "0:2", "4:3", "a:b", "-1:2"])
def test_steps_that_are_none_are_refused(text):
  with pytest.raises(ConfigError, match="--profile_steps: expected START:END"):
    parse_steps(text)
