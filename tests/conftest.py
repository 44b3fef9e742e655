"""Eight host devices for every test and quick compiling, set before JAX starts."""

import os

os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small programs that run once: compiling them takes most of a test's time. Tests marked
# `optimized` run them as users do; so do all with 0.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

from absl import flags  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# Grain and ml_collections read absl flags; pytest does not parse them.
flags.FLAGS.mark_as_parsed()
_NAME = "jax_disable_most_optimizations"
_QUICK = jax.config.read(_NAME)


def pytest_runtest_protocol(item):
  """Has XLA optimize the programs of a test that is marked so, fixtures included."""
  quick = _QUICK and item.get_closest_marker("optimized") is None
  if jax.config.read(_NAME) != quick:
    jax.clear_caches()  # They do not know how a program was compiled.
    jax.config.update(_NAME, quick)


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
  """See tests/chains.py: made once, for tests that only read it."""
  from tests import chains

  return chains.make(tmp_path_factory.mktemp("chain"))
