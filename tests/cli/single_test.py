"""A stage alone: the flags beside those of every run reach what runs it."""

import pytest

from tests import children

WRONG = {
  ("relearn", "--checkpoint=none/there"): "must be a directory",
  ("pretrain", "--models=base,nothing"): "--models: 'nothing' is none of data, base",
}


@pytest.mark.processes
def test_a_checkpoint_and_models_that_are_not_there_are_one_line(tmp_path):
  flags = ("--config=arithmetic:tiny", f"--workdir={tmp_path}")
  for (kind, flag), message in WRONG.items():
    status, _, said = children.run(kind, *flags, flag)
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: ") and message in line
  assert not list(tmp_path.iterdir())
