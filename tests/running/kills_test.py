"""Kills, signals and flipped bits at any moment of a run: the same results, to a bit.

What SIGKILL leaves is what the disk holds in that moment. So a run is copied before
some of its changes of files, and every copy is gone on with. SIGTERM is sent to this
process, when it opens or changes a file. More of them than in every run of the tests:

  make kills EXAMPLES=200
"""

import contextlib
import gc
import itertools
import json
import os
import pathlib
import shutil
import signal
import sys
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from tests import minimal, sharing
from tests.running.damage_test import flipped
from undo_jax.data import rows
from undo_jax.distributed import preemption
from undo_jax.running.runs import run_all
from undo_jax.utils.errors import ConfigError

# Drawn anew where more of them are asked for, the same ones in every run of the tests.
EXAMPLES = int(os.environ.get("KILLS", 0))
KILLS, SIGNALS, BITS, RUNS = (
  (EXAMPLES * 7 // 10, EXAMPLES * 3 // 10, EXAMPLES, EXAMPLES)
  if EXAMPLES
  else (9, 4, 7, 0)
)
# The base and an attack on it: no model more, since every kill runs the rest again.
CHANGES = {"model.num_layers": 1, "report.figures": ()}
OF_FILES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate")
MEASURED = ("seconds", "tokens_per_second", "share_of_peak", "input_seconds")
MEASURED += ("memory_bytes",)

pytestmark = pytest.mark.usefixtures("one_device")


def rng():
  return np.random.default_rng(None if EXAMPLES else 0)


class Moments:
  """What is done at each event of this process; nothing outside of `watched`."""

  act = None

  @classmethod
  def hook(cls, event, args):
    if cls.act is not None:
      act, cls.act = cls.act, None  # What it does itself is no event.
      try:
        act(event, args)
      finally:
        cls.act = act if cls.act is None else None


@contextlib.contextmanager
def watched(act):
  if not hasattr(Moments, "is_there"):
    sys.addaudithook(Moments.hook)  # Stays to the end of the process.
    Moments.is_there = True
  Moments.act = act
  try:
    yield
  finally:
    Moments.act = None


def touches_files(event):
  """Whether a file is read or changed: of other events most come before the first."""
  return event == "open" or event in OF_FILES


def changes_files(event, args, workdir):
  """Whether an event is about to change a file of a directory."""
  if event == "open":
    if not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
      return False
  elif event not in OF_FILES:
    return False
  path = os.fsdecode(args[0]) if isinstance(args[0], str | os.PathLike) else ""
  # Those who remove trees name files by their directory's number.
  return path.startswith(f"{workdir}/") or not os.path.isabs(path)


def run(workdir):
  config = minimal.only(minimal.config(**CHANGES), ("base",))
  config.references.filtered = config.references.unlearned = None
  run_all(config, workdir)
  rows.source.cache_clear()  # Holds the rows of other runs of this process.


def copy_as_killed(workdir, target):
  """Copy a run as one whose process is no more."""
  with contextlib.suppress(shutil.Error):  # What is half written may go meanwhile.
    shutil.copytree(workdir, target)
  for path in target.glob("stages/*/leases/[0-9]*.json"):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"started": "of another process"}))
  for path in target.rglob(".*.tmp"):
    os.utime(path, (0, 0))  # The kill was long ago.


def losses(path):
  records = map(json.loads, path.read_text().splitlines())
  return [
    {key: value for key, value in row.items() if key not in MEASURED}
    for row in records
    if row["kind"] != "checkpoint"
  ]


def assert_same(workdir, whole):
  """Assert that two runs came to the same, to a bit."""

  def content(name):
    return [(root / name).read_bytes() for root in (workdir, whole)]

  stages = [f"stages/{path.name}" for path in (whole / "stages").iterdir()]
  assert len(stages) == 3
  outcomes = [f"{stage}/{file}" for stage in stages for file in ("done", "config")]
  for name in ("results", "plan", "config", *outcomes):
    one, other = content(f"{name}.json")
    assert one == other, name
  for path in whole.glob("stages/*/metrics.jsonl"):
    assert losses(workdir / path.relative_to(whole)) == losses(path), path
  for name in ("base", "relearn_base"):
    one, other = (sharing.checkpoint(root, name) for root in (workdir, whole))
    assert list(one) == list(other) and one
    for path in one:
      assert one[path].tobytes() == other[path].tobytes(), (name, path)


class Made(NamedTuple):
  """Undisturbed runs, the first with programs that were compiled for it."""

  whole: pathlib.Path
  again: pathlib.Path
  killed: list[pathlib.Path]  # Copies of the second, before changes of its files.
  num_events: int  # Of the second.


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  whole, again, num_changes, num_events = root / "whole", root / "again", 0, 0
  copies = []

  def count(event, args):
    nonlocal num_changes
    num_changes += changes_files(event, args, whole)

  def copy(event, args):
    nonlocal num_changes, num_events
    num_events += touches_files(event)
    if changes_files(event, args, again):
      if num_changes in moments:
        copies.append(root / f"killed_{num_changes}" / "run")
        copy_as_killed(again, copies[-1])
      num_changes += 1

  with minimal.one_device():
    with watched(count):
      run(whole)
    number = min(KILLS, num_changes)
    moments = {int(x) for x in rng().choice(num_changes, number, replace=False)}
    num_changes = 0
    with watched(copy):
      run(again)
  return Made(whole, again, copies, num_events)


def test_a_run_killed_before_any_change_of_a_file_comes_to_the_same(made):
  assert_same(made.again, made.whole)
  assert len(made.killed) > KILLS / 2  # Signs of life are more in a slower run.
  for workdir in made.killed:
    run(workdir)
    assert_same(workdir, made.whole)
    left = [x for x in workdir.rglob("*") if x.name.endswith(("tmp", "incomplete"))]
    assert not left, left
    shutil.rmtree(workdir.parent)


def test_a_run_told_to_stop_at_any_moment_comes_to_the_same(made, tmp_path):
  before, draws = signal.getsignal(signal.SIGTERM), rng()
  sent, left = 0, 0

  def signalled(event, args):
    nonlocal left, sent
    left -= touches_files(event)
    if left == 0 and touches_files(event):
      sent += 1
      os.kill(os.getpid(), signal.SIGTERM)

  for number in itertools.count():
    workdir, is_over = tmp_path / str(number), False
    while not is_over:
      left = int(draws.integers(1, made.num_events)) if sent < SIGNALS else 0
      preemption.listen()
      try:
        with watched(signalled):
          run(workdir)
        is_over = True
      except preemption.Preempted:
        pass
      except SystemExit as ended:
        assert ended.code == preemption.EXIT_STATUS
      finally:
        preemption.listen()
        signal.signal(signal.SIGTERM, before)
    assert_same(workdir, made.whole)
    if sent >= SIGNALS:
      break


def test_a_bit_of_a_finished_run_changes_no_result_or_is_named(made, tmp_path):
  draws = rng()
  workdir = shutil.copytree(made.whole, tmp_path / "run")
  files = sorted(f for f in workdir.rglob("*") if f.is_file() and f.stat().st_size)
  expected = (made.whole / "results.json").read_bytes()
  for index in draws.choice(len(files), BITS, replace=BITS > len(files)):
    path = files[index]
    intact = path.read_bytes()
    path.write_bytes(flipped(intact, draws))
    try:
      run(workdir)
      assert (workdir / "results.json").read_bytes() == expected, path
    except ConfigError as error:
      assert "\n" not in str(error) and str(path) in str(error), error
    path.write_bytes(intact)
  run(workdir)
  assert (workdir / "results.json").read_bytes() == expected


# MARK: soak

# Of a run, in bytes; see below for a leak that breaks it.
LARGEST_GROWTH = 2**20


def growth(repeat, count):
  """Return by how much memory [bytes] and open files grow with each repetition.

  The median slope between points of the later half.
  """
  process, samples = psutil.Process(), []
  for number in range(count):
    repeat(number)
    gc.collect()
    samples.append((process.memory_info().rss, process.num_fds()))
  return np.median(slopes(samples[count // 2 :]), axis=0)


def slopes(samples):
  """Return the growth from each sample to each later one, per sample between."""
  return [
    [(after - before) / (j - i) for before, after in zip(a, b, strict=True)]
    for i, a in enumerate(samples)
    for j, b in enumerate(samples)
    if i < j
  ]


@pytest.mark.skipif(not RUNS, reason="takes many runs: make kills")
def test_memory_and_open_files_do_not_grow_from_run_to_run(made, tmp_path):
  memory, open_files = growth(lambda n: run(tmp_path / str(n)), RUNS)
  assert memory < LARGEST_GROWTH and open_files <= 0


def test_a_leak_is_seen(tmp_path):
  held = []

  def leak(number):
    held.append(np.ones(4 * LARGEST_GROWTH, np.int8))
    held.append(open(tmp_path / str(number), "w"))

  memory, open_files = growth(leak, 12)
  for file in held[1::2]:
    file.close()
  assert memory > LARGEST_GROWTH and open_files >= 1
