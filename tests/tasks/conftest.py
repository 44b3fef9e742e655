"""Fixtures of the tests of tasks."""

import pytest

from undo_jax.data.documents import preparation


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
  """Document are read here: starting workers takes longer than their work."""
  monkeypatch.setattr(preparation, "_num_cores", lambda: 1)
