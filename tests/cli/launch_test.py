"""The flags of a run: what is wrong with them is told in one line."""

import pytest

from tests import children

WRONG = {
  "--config=arithmetic:tiny": "--workdir must have a value",
  "--config=arithmetic:tiny --workdr=x": "'workdr'. Did you mean: workdir",
  "--config=arithmetic:tiny --workdir=x --config.lr=1": "config has no field lr",
  "--config=arithmetic:tiny --workdir=x --config.seeds=None": "config.seeds: expected",
  "--config=arithmetic:tiny --workdir=x --profile_steps=4:3": "expected START:END",
  "--config=nothing --workdir=x": "error: --config: expected a file or one",
}


@pytest.mark.processes
def test_wrong_flags_are_one_line():
  for arguments, message in WRONG.items():
    status, _, said = children.run("undo", *arguments.split())
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: ") and message in line
