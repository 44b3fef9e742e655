"""The data stage, and which of its rows a stage reads."""

from collections.abc import Iterable, Iterator, Mapping
import itertools
import logging
import pathlib
import tempfile
from typing import Any, TypeAlias

from undo_jax import objectives, tasks
from undo_jax.data import labels, pipeline
from undo_jax.data.rows import Sample
from undo_jax.distributed import processes, sharding
from undo_jax.objectives import routed
from undo_jax.plan.stages import (
  BATCH,
  AttackStage,
  DataStage,
  EditStage,
  SaliencyStage,
  TrainStage,
)
from undo_jax.running import selection
from undo_jax.running.predictions import with_predictions
from undo_jax.running.run import Outcome, Run
from undo_jax.utils import files, streams
from undo_jax.utils.types import ConfigError, Rows

# A stage that reads rows.
Reader: TypeAlias = TrainStage | SaliencyStage | AttackStage | EditStage
LOGGER = logging.getLogger("undo_jax")


def run_data(run: Run, stage: DataStage, directory: files.Path, title: str) -> Outcome:
  """Make the rows and the evaluation problems of the task, in one process."""
  del run
  LOGGER.info("%s: reading, tokenizing and packing", title)
  task = tasks.get(stage.task)

  def prepare(local):
    return task.prepare(stage.data, stage.seeds, local, title)

  def prepare_for_store():
    with tempfile.TemporaryDirectory() as local:
      prepared = prepare(pathlib.Path(local))
      files.copy_tree(pathlib.Path(local), directory)
      return prepared

  if files.is_remote(directory):
    return processes.on_first("data", prepare_for_store)
  return processes.on_first("data", lambda: prepare(directory))


def _parts(
  run: Run, stage: Reader, parts: Mapping[str, Mapping[str, float]], offset: int = 0
) -> Iterator[tuple[str, dict[str, Rows], dict[str, Any]]]:
  """Yield for each part of a batch its name, its splits and how they are mixed."""
  data = run.data
  task = tasks.get(data.task)
  directory = files.here(run.directories[data.name])
  stream = stage.order_stream if isinstance(stage, TrainStage) else stage.stream
  seed = streams.integer(stage.seeds[stream], stream)

  def rows(name: str) -> Rows:
    split, _, which = name.partition(":")
    source = task.source(data.data, directory, split)
    if isinstance(stage, TrainStage) and stage.predictions is not None:
      source = with_predictions(run, stage.predictions, split, source)
    if labels.Folds.are(which):
      return labels.Folds(source, which)
    selected = _selection(stage)
    if selected is not None and which:
      return selection.rows_of(run, selected, split, which, source)
    if isinstance(stage, AttackStage) and stage.samples is not None:
      return Sample(source, stage.samples, seed)
    return _labelled(source, name, stage) if isinstance(stage, TrainStage) else source

  for index, (name, weights) in enumerate(parts.items(), start=offset):
    splits = {split: rows(split) for split in weights}
    how = {
      "weights": list(weights.values()),
      "seed": seed + 1000 * index,
      "batch_size": stage.rows[name],
    }
    yield name, splits, how


def _selection(stage: Reader) -> str | None:
  """Return the stage of the selection whose rows another one reads, if any."""
  return None if isinstance(stage, AttackStage | EditStage) else stage.selection


def _read(run: Run, stage: Reader) -> dict[str, dict[str, float]]:
  """Return the parts of a batch with the weights by which their rows are read.

  Raises:
    ConfigError: if a selection leaves no rows of a part.
  """
  selected = _selection(stage)
  if selected is None:
    return stage.parts or {}
  outcome, read = selection.outcome_of(run, selected), {}
  for part, weights in (stage.parts or {}).items():
    read[part] = labels.selected_weights(
      weights, outcome["rows"], outcome[labels.SELECTED]
    )
    if not read[part]:
      raise ConfigError(
        f"{stage.name} reads {', '.join(weights)}, of which {selected} has taken no "
        "row; label more rows, set the selection's keep, or read other splits"
      )
  return read


def batches_of(run: Run, stage: Reader):
  """Return the batches of a stage: one mixture, or several parts by name.

  Of each batch this process reads the rows of its own devices.
  """
  return _mixed(run, _parts(run, stage, _read(run, stage)))


def attack_batches(run: Run, stage: AttackStage, start: int) -> Iterator[Any]:
  """Yield the batches of an attack from that of update `start` on."""
  first = stage.first
  if first is None:
    return pipeline.iterator(batches_of(run, stage), start=start)
  before = _mixed(run, _parts(run, stage, first.parts, offset=len(stage.parts)))
  left = max(first.num_steps - start, 0)
  own = pipeline.iterator(batches_of(run, stage), start=max(start - first.num_steps, 0))
  return itertools.chain(
    itertools.islice(pipeline.iterator(before, start=start), left), own
  )


def _mixed(run: Run, parts: Iterable[tuple[str, dict[str, Rows], dict[str, Any]]]):
  """Return the batches of some parts."""
  shards, num_shards = sharding.batch_shards(run.mesh)
  made = {
    name: pipeline.mixture(
      list(splits.values()), shards=shards, num_shards=num_shards, **how
    )
    for name, splits, how in parts
  }
  return made[BATCH] if list(made) == [BATCH] else pipeline.paired(made)


def mixture_of(run: Run, weights: Mapping[str, float], *, batch_size: int, seed: int):
  """Return batches of splits in the proportions of their weights, for no stage."""
  directory = files.here(run.directories[run.data.name])
  source = tasks.get(run.data.task).source
  shards, num_shards = sharding.batch_shards(run.mesh)
  return pipeline.mixture(
    [source(run.data.data, directory, split) for split in weights],
    weights=[*weights.values()],
    seed=seed,
    batch_size=batch_size,
    shards=shards,
    num_shards=num_shards,
  )


def describe_batch(run: Run, stage: TrainStage, step: int) -> str:
  """Return which rows of which splits the batch of a training step holds."""
  return "; ".join(
    f"{split} rows {', '.join(map(str, rows))}"
    for _, splits, how in _parts(run, stage, _read(run, stage))
    for split, rows in pipeline.rows_of(splits, step, **how).items()
  )


def _labelled(rows: Rows, name: str, stage: TrainStage) -> Rows:
  """Return the rows that `name` stands for, see data.labels, with sources if routed."""
  if stage.labels is None:
    return rows
  split, _, which = name.partition(":")
  if which:
    return labels.Chosen(rows, stage.labels.share, which)
  if objectives.method(stage.objective, stage.options).sources != "rows":
    return rows
  source = routed.FORGET if split in stage.labels.forget else routed.RETAIN
  return labels.WithSource(
    rows, stage.labels.share, labelled=source, otherwise=routed.UNLABELLED
  )


def check_labels(run: Run) -> None:
  """Raise ConfigError if a later stage finds no row of a label it reads."""
  data = run.done(run.data.name)
  for stage in run.stages:
    if isinstance(stage, TrainStage) and stage.labels and data is not None:
      for weights in stage.parts.values():
        labels.check(data["rows"], weights, stage.labels.share)
