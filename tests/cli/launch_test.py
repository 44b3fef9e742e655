"""The flags of a run: what is wrong with them is told in one line."""

import pytest

from tests.cli.forks import run

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
  done = run([["undo", *arguments.split()] for arguments in WRONG])
  for (status, _, said), message in zip(done, WRONG.values(), strict=True):
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: ") and message in line
