"""Eight host devices for every test and quick compiling, set before JAX starts."""

import contextlib
import fcntl
import gc
import importlib.metadata
import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small programs that run once: compiling them takes most of a test's time. With 0 they
# are compiled as users compile them, and the tests marked `optimized` run alone.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
QUICK = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0"
if QUICK and importlib.metadata.version("jaxlib").startswith("0.10."):
  # Each fusion of the newer emitters starts an MLIR context: half of a compilation.
  # jaxlib 0.12 ends at this flag, which it does not know.
  emitters = "--xla_cpu_use_fusion_emitters=false"
  pieces = "--xla_cpu_parallel_codegen_split_count=1"
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {emitters} {pieces}"
# Traces are many small objects that live on: collecting them is a tenth of the time.
gc.set_threshold(100_000)
# Thousands of programs: a process came to hold 4.8 GB of them.
HELD_BYTES = 3_000_000_000

from absl import flags  # noqa: E402
import jax  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402

# Grain and ml_collections read absl flags; pytest does not parse them.
flags.FLAGS.mark_as_parsed()


def pytest_ignore_collect(collection_path):
  """Leave files unread that have no test for optimized programs, where those run."""
  if QUICK or collection_path.suffix != ".py":
    return None
  return "mark.optimized" not in collection_path.read_text() or None


def pytest_collection_modifyitems(config, items):
  """Keep the tests meant for programs compiled as they are here, long files first."""

  def is_meant(item):
    return (item.get_closest_marker("optimized") is None) == QUICK

  config.hook.pytest_deselected(items=[x for x in items if not is_meant(x)])
  items[:] = [item for item in items if is_meant(item)]
  # Files that run commands take longest: the last one must not be one of them.
  starting = {x.path for x in items if x.get_closest_marker("processes")}
  items.sort(key=lambda item: item.path not in starting)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
  """Leave all that is held to the end; pytest would look through it five times."""
  gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def programs_are_forgotten():
  """Clear JAX's caches after a file once they have grown large."""
  yield
  if psutil.Process().memory_info().rss > HELD_BYTES:
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
  """A directory that all workers of this run of tests have in common."""
  root = tmp_path_factory.getbasetemp()
  return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session", autouse=True)
def compiled_by_children(shared):
  """Where processes that tests start keep programs, and not in the user's cache."""
  os.environ.setdefault("TESTS_COMPILED", str(shared / "compiled"))
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.environ["TESTS_COMPILED"])


@contextlib.contextmanager
def one_worker_at_a_time(path):
  """Hold a lock: what the first worker has run is finished for the next ones."""
  with open(path, "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


@pytest.fixture
def one_device():
  """For tests whose runs are about something else than devices."""
  from tests import minimal

  with minimal.one_device():
    yield


@pytest.fixture(scope="session")
def chain(shared):
  """See tests/chains.py: made once, for tests that only read it."""
  from tests import chains, minimal

  with one_worker_at_a_time(shared / "chain.lock"), minimal.one_device():
    return chains.make(shared / "chain")


@pytest.fixture(scope="session")
def alone(shared):
  """See tests/sharing.py: run once by one driver, for tests that only read it."""
  from tests import sharing

  with one_worker_at_a_time(shared / "alone.lock"):
    workdir = shared / "alone"
    return workdir if (workdir / "results.json").exists() else sharing.make(workdir)


@pytest.fixture(scope="session")
def variants(shared, chain):
  """See tests/running/variants.py: run once, for tests that only read it."""
  from tests.running.variants import variant_run
  from undo_jax import running

  with one_worker_at_a_time(shared / "variants.lock"):
    run = variant_run(shared / "variants", base=chain[1])
    return run, running.run_stages(run)
