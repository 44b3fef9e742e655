"""A run of five stages, two of which can run at once, and when two runs are equal."""

from collections.abc import Container, Sequence
import json
import pathlib
import shutil
import time

import numpy as np
from orbax.checkpoint import v1 as ocp

from tests import children, minimal

CHANGES = {
  f"models.{name}.run": False
  for name in ("data_filtering", "oracle_matching", "undo", "unlearn_and_distill")
}
STAGES = ("data", "base", "max_ent", "relearn_base", "relearn_max_ent")


def command(workdir, *flags: str, **changes: object) -> list[str]:
  """Return the run's command."""
  config = minimal.flags(**(CHANGES | changes))
  return ["undo", f"--workdir={workdir}", *config, *flags]


def make(workdir: pathlib.Path) -> pathlib.Path:
  """Run it by one driver; return the workdir."""
  status, _, said = children.run(*command(workdir))
  assert status == 0, said
  return workdir


def copied(
  workdir: pathlib.Path, other: pathlib.Path, without: Sequence[str]
) -> pathlib.Path:
  """Return a copy of a run that has lost stages and what came of them."""
  left_out = [f"{name}-*" for name in without]
  patterns = ("results.json", "report.html", "figures", *left_out)
  return shutil.copytree(workdir, other, ignore=shutil.ignore_patterns(*patterns))


def stage(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Return a stage's directory."""
  (path,) = workdir.glob(f"stages/{name}-{'[0-9a-f]' * 12}")
  return path


def checkpoint(workdir: pathlib.Path, name: str) -> dict[str, np.ndarray]:
  """Return the arrays of a finished stage's checkpoint, by path."""
  steps = stage(workdir, name).glob("checkpoints/[0-9]*")
  (last,) = (path for path in steps if path.name.isdigit())
  return {
    path: np.asarray(leaf)
    for path, leaf in _leaves(
      ocp.load_checkpointables(str(last), {"params": None})["params"]
    )
  }


def _leaves(tree, prefix=""):
  items = tree.items() if isinstance(tree, dict) else enumerate(tree)
  for name, value in items:
    if isinstance(value, dict | list | tuple):
      yield from _leaves(value, f"{prefix}/{name}")
    elif value is not None:
      yield f"{prefix}/{name}", value


def wait_for_holder(
  workdir: pathlib.Path,
  alone: pathlib.Path,
  name: str,
  driver: children.Child,
  other_than: Container[int] = (),
) -> int:
  """Return the number of the process that runs a stage, once one does."""
  directory = workdir / "stages" / stage(alone, name).name / "leases"
  while True:
    assert driver.poll() is None, driver.printed()[1]
    for path in directory.glob("*.json"):
      content = json.loads(path.read_text())
      if not content["is_over"] and content["process"] not in other_than:
        return content["process"]
    time.sleep(0.02)


def assert_equal(workdir: pathlib.Path, other: pathlib.Path) -> None:
  """Assert that two runs came to the same, byte for byte."""
  assert (workdir / "results.json").read_bytes() == (
    other / "results.json"
  ).read_bytes()
  for name in STAGES:
    here, there = stage(workdir, name), stage(other, name)
    assert here.name == there.name
    for file in ("done.json", "config.json"):
      assert (here / file).read_bytes() == (there / file).read_bytes(), (name, file)
    if name != "data":
      one, two = checkpoint(workdir, name), checkpoint(other, name)
      assert list(one) == list(two) and one
      for path in one:
        assert one[path].tobytes() == two[path].tobytes(), (name, path)
