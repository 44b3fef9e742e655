"""Rows that a classifier selects by a few labelled ones, as a stage.

WORKDIR/stages/selection_NAME-<identity>/ has the numbers of rows, int64, as
SPLIT.labelled.npy and SPLIT.selected.npy.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import io
import logging
import math

import numpy as np

from undo_jax import tasks
from undo_jax.data import labels, row_classifier
from undo_jax.data.labels import LABELLED, SELECTED
from undo_jax.distributed import processes
from undo_jax.frontier import compute
from undo_jax.plan.stages import SelectionStage
from undo_jax.running.run import Outcome, Run
from undo_jax.utils import files, streams
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.types import Rows

LOGGER = logging.getLogger("undo_jax")
CHUNK_TOKENS = 2**20  # That are scored at a time, at most; bounds the memory.


def run_selection(
  run: Run, stage: SelectionStage, directory: files.Path, title: str
) -> Outcome:
  """Train a classifier on labelled rows and score all rows, in one process.

  It takes the rows whose odds are at least 1, or the given share of all rows with the
  highest odds; of labelled rows it takes those that are labelled clean.
  """
  LOGGER.info("%s: training a classifier of rows and scoring all", title)
  return processes.on_first("selection", lambda: _select(run, stage, directory))


def _select(run: Run, stage: SelectionStage, directory: files.Path) -> Outcome:
  data = run.data
  here, source = files.here(run.directories[data.name]), tasks.get(data.task).source
  sources = {split: source(data.data, here, split) for split in stage.splits}
  labelled = _labelled(stage, {split: len(rows) for split, rows in sources.items()})
  tokens, is_retain = _learned_from(stage, sources, labelled)
  classifier = row_classifier.train(tokens, is_retain)
  scores = {
    split: row_classifier.scores(classifier, _chunks(rows, stage.length))
    for split, rows in sources.items()
  }
  threshold = _threshold(stage, np.concatenate(list(scores.values())))
  selected = _selected(stage, scores, threshold, labelled)
  for kind, numbers in ((LABELLED, labelled), (SELECTED, selected)):
    for split, array in numbers.items():
      _write(_path(directory, split, kind), array)
  rows = {split: len(own) for split, own in scores.items()}
  return {
    "rows": rows,
    LABELLED: {split: len(numbers) for split, numbers in labelled.items()},
    SELECTED: {split: len(numbers) for split, numbers in selected.items()},
    **_quality(stage, rows, selected),
    "threshold": threshold,
    "learned_from": len(tokens),
    "iterations": classifier.iterations,
    "compute": dataclasses.asdict(
      cost(
        stage,
        rows=sum(rows.values()),
        learned_from=len(tokens),
        iterations=classifier.iterations,
      )
    ),
  }


def cost(
  stage: SelectionStage, *, rows: int, learned_from: int = 0, iterations: int = 0
) -> compute.Compute:
  """Return what it costs to score all rows, and to learn from some in so many passes.

  The cost of learning is known only afterwards; without it the cost is a little too
  low.
  """
  passes = rows + 2 * iterations * learned_from  # Forward and backward.
  return compute.Compute(flops=row_classifier.flops(length=stage.length, rows=passes))


def _labelled(stage: SelectionStage, rows: Mapping[str, int]) -> dict[str, np.ndarray]:
  """Return the numbers of the rows of each split that are labelled.

  Raises:
    ConfigError: if there are fewer rows than are to be labelled.
  """
  total, share = sum(rows.values()), stage.share
  if share is None:
    share = (stage.labelled or 0) / total
  if share > 1:
    raise ConfigError(
      f"{stage.name}: expected at most {total} labelled rows, which is all there are, "
      f"got {stage.labelled}; lower the selection's rows"
    )
  root = stage.seeds[stage.stream]
  return {
    split: labels.drawn(size, share, streams.integer(root, f"labels of {split}"))
    for split, size in rows.items()
  }


def _learned_from(
  stage: SelectionStage,
  sources: Mapping[str, Rows],
  labelled: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
  """Return the tokens of labelled rows, int32 [n, L + 1], and which are retain rows.

  If memory cannot hold all of them, only the first ones that were drawn.
  """
  total = sum(map(len, labelled.values()))
  share = min(1.0, row_classifier.MOST_TOKENS / (total * (stage.length + 1)))
  tokens, is_retain = [], []
  for split, numbers in labelled.items():
    taken = numbers[: max(1, math.floor(share * len(numbers)))]
    tokens += [sources[split][int(number)]["tokens"] for number in taken]
    is_retain += [split not in stage.forget] * len(taken)
  return np.stack(tokens), np.array(is_retain)


def _chunks(rows: Rows, length: int) -> Iterator[np.ndarray]:
  """Yield the tokens of all rows of a split, int32 [chunk, L + 1]."""
  size = max(1, CHUNK_TOKENS // (length + 1))
  for start in range(0, len(rows), size):
    numbers = range(start, min(start + size, len(rows)))
    yield np.stack([rows[number]["tokens"] for number in numbers])


def _threshold(stage: SelectionStage, scores: np.ndarray) -> float:
  """Return the log-odds from which on rows are taken."""
  return 0.0 if stage.keep is None else float(np.quantile(scores, 1 - stage.keep))


def _selected(
  stage: SelectionStage,
  scores: Mapping[str, np.ndarray],
  threshold: float,
  labelled: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """Return the numbers of the rows that are taken, of each split in order."""
  selected = {}
  for split, odds in scores.items():
    is_taken = odds >= threshold
    is_taken[labelled[split]] = split not in stage.forget
    selected[split] = np.flatnonzero(is_taken)
  return selected


def _quality(
  stage: SelectionStage, rows: Mapping[str, int], selected: Mapping[str, np.ndarray]
) -> dict[str, float]:
  """Return the precision and recall of the rows taken."""
  clean = [split for split in rows if split not in stage.forget]
  right = sum(len(selected[split]) for split in clean)
  taken = sum(map(len, selected.values()))
  return {
    "precision": right / taken,
    "recall": right / sum(rows[split] for split in clean),
  }


def _path(directory: files.Path, split: str, kind: str) -> files.Path:
  return directory / f"{split}.{kind}.npy"


def _write(path: files.Path, numbers: np.ndarray) -> None:
  data = io.BytesIO()
  np.save(data, numbers.astype(np.int64), allow_pickle=False)
  files.write_bytes(path, data.getvalue())


def rows_of(run: Run, name: str, split: str, kind: str, rows: Rows) -> Rows:
  """Return the rows of a split that a finished stage has selected, or labelled.

  Args:
    run: that the stage is of.
    name: of the stage.
    split: of the rows.
    kind: SELECTED or LABELLED.
    rows: of the split, all of them.

  Raises:
    ConfigError: if the stage's file is not what it has written; names it.
  """
  path = _path(files.here(run.directories[name]), split, kind)
  expected = outcome_of(run, name)[kind][split]
  try:
    numbers = np.load(path, allow_pickle=False)
    got = f"{numbers.dtype} {numbers.shape}"
  except (OSError, ValueError) as error:
    numbers, got = np.zeros(0, np.int64), f"{error}"
  if got != f"int64 ({expected},)":
    raise ConfigError(
      f"{path} is damaged, expected the numbers of {expected} rows, got {got:.80}; "
      "bring it back from a copy, or delete its stage's directory to run that again"
    )
  return labels.Subset(rows, numbers)


def outcome_of(run: Run, name: str) -> Outcome:
  """Return what a finished selection left."""
  outcome = run.done(name)
  assert outcome is not None, "a stage runs when those that it reads are finished"
  return outcome
