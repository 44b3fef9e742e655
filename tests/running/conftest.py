"""The variants of the paper, run once for all tests of their stages."""

import pytest

from tests.running.variants import variant_run
from undo_jax import running


@pytest.fixture(scope="session")
def variants(tmp_path_factory):
  run = variant_run(tmp_path_factory.mktemp("variants"))
  return run, running.run_stages(run)
