"""A stage alone: the flags beside those of every run reach what runs it."""

import pytest

from tests.cli.forks import run

RUN = ("--config=arithmetic:tiny", "--workdir=x")
WRONG = {
  ("relearn", "--checkpoint=none/there"): "must be a directory",
  ("pretrain", "--models=base,nothing"): "--models: 'nothing' is none of data, base",
}


@pytest.mark.processes
def test_a_checkpoint_and_models_that_are_not_there_are_one_line():
  done = run([[kind, *RUN, flag] for kind, flag in WRONG])
  for (status, _, said), message in zip(done, WRONG.values(), strict=True):
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: ") and message in line
