"""The data stage, and which of its rows a stage reads."""

from collections.abc import Mapping
import logging
import pathlib
import tempfile
from typing import Any

from undo_jax import tasks as settings_lib
from undo_jax.data import labels, pipeline
from undo_jax.distributed import processes, sharding
from undo_jax.objectives import routed
from undo_jax.running.run import Run
from undo_jax.stages import Stage, part_rows
from undo_jax.utils import files, streams

LOGGER = logging.getLogger("undo_jax")


def run_data(run, stage, directory, title):
  """Makes the rows and the evaluation problems of the setting, in one process."""
  del run
  LOGGER.info("%s: reading, tokenizing and packing", title)
  settings = stage.settings
  setting = settings_lib.get(settings["setting"])

  def prepare(local):
    return setting.prepare(settings["data"], settings["seeds"], local, title)

  def prepare_for_store():
    with tempfile.TemporaryDirectory() as local:
      found = prepare(pathlib.Path(local))
      files.copy_tree(pathlib.Path(local), directory)
      return found

  if files.is_remote(directory):
    return processes.on_first("data", prepare_for_store)
  return processes.on_first("data", lambda: prepare(directory))


def _parts(run: Run, stage: Stage, *, stream: str, batch_size: int):
  """Yields for each part of a batch its name, its splits and how they are mixed."""
  data = next(s for s in run.stages if s.name == stage.inputs["data"])
  setting = settings_lib.get(data.settings["setting"])
  directory = files.here(run.directories[data.name])
  seed = streams.integer(stage.settings["seeds"][stream], stream)
  sizes = part_rows(stage.settings, batch_size)

  def rows(name):
    split = labels.split_of(name)
    found = setting.source(data.settings["data"], directory, split)
    return _labelled(found, name, stage.settings)

  for index, (name, weights) in enumerate(stage.settings["parts"].items()):
    splits = {split: rows(split) for split in weights}
    how = {
      "weights": list(weights.values()),
      "seed": seed + 1000 * index,
      "batch_size": sizes[name],
    }
    yield name, splits, how


def batches_of(run: Run, stage: Stage, *, stream: str, batch_size: int):
  """Returns the batches of a stage: one mixture, or several parts by name.

  Of each batch this process reads the rows of its own devices.
  """
  shards, num_shards = sharding.batch_shards(run.mesh)
  made = {
    name: pipeline.mixture(
      list(splits.values()), shards=shards, num_shards=num_shards, **how
    )
    for name, splits, how in _parts(run, stage, stream=stream, batch_size=batch_size)
  }
  return made["batch"] if list(made) == ["batch"] else pipeline.paired(made)


def describe_batch(run: Run, stage: Stage, stream: str, step: int) -> str:
  """Returns which rows of which splits the batch of a training step holds."""
  size = stage.settings["batch_size"]
  return "; ".join(
    f"{split} rows {', '.join(map(str, rows))}"
    for _, splits, how in _parts(run, stage, stream=stream, batch_size=size)
    for split, rows in pipeline.rows_of(splits, step, **how).items()
  )


def _labelled(rows: Any, name: str, settings: Mapping[str, Any]) -> Any:
  """Returns those rows that `name` says, see data.labels, with sources if routed."""
  told = settings.get("labels")
  if told is None:
    return rows
  split, _, which = name.partition(":")
  if which:
    return labels.Chosen(rows, told["share"], which)
  if not settings["objective"].startswith("routed"):
    return rows
  source = routed.FORGET if split in told["forget"] else routed.RETAIN
  return labels.WithSource(
    rows, told["share"], labelled=source, otherwise=routed.UNLABELLED
  )


def check_labels(run: Run) -> None:
  """Raises ConfigError if a later stage finds no row of a label it reads."""
  data = run.done("data")
  for stage in run.stages:
    told = stage.settings.get("labels")
    if told is not None and data is not None:
      for weights in stage.settings["parts"].values():
        labels.check(data["rows"], weights, told["share"])
