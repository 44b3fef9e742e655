"""The Grain pipeline: rows of one or several domains to an endless batch stream.

One order of transforms everywhere: seed, shuffle, repeat, mix, shard by process,
batch, shift. The order depends on (seed, step) only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import grain

from undo_jax.data.packing import to_batch
from undo_jax.types import ConfigError


def mixture(
  sources: Sequence[Any],
  *,
  seed: int,
  batch_size: int,
  weights: Sequence[float] | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset:
  """Returns batches drawn from sources by probability, without end.

  Args:
    sources: random-access rows, see data.rows.
    seed: of the order; each source's is derived from it.
    batch_size: rows over all processes.
    weights: probability of each source; None: equal.
    process_index: which part of every batch this process reads.
    process_count: number of parts.

  Returns:
    A MapDataset of batches {"inputs", "targets", "mask"} (see packing.to_batch)
    with batch_size / process_count rows.

  Raises:
    ConfigError: if the batch does not divide over the processes, or a source is
      empty.
  """
  if batch_size < 1 or batch_size % process_count:
    raise ConfigError(
      f"batch_size must be a positive multiple of the {process_count} processes, "
      f"got {batch_size}"
    )
  if any(len(source) == 0 for source in sources):
    raise ConfigError("a data source is empty; generate or give more documents")
  shuffled = [
    grain.MapDataset.source(source).seed(seed + index).shuffle().repeat(None)
    for index, source in enumerate(sources)
  ]
  if len(shuffled) == 1:
    dataset = shuffled[0]
  else:
    dataset = grain.MapDataset.mix(shuffled, weights or [1.0] * len(shuffled))
  # Rows process_index, process_index + process_count, ...: the same global batch
  # however many processes read it.
  dataset = dataset[process_index::process_count]
  return dataset.batch(batch_size // process_count).map(to_batch)


def paired(parts: Mapping[str, grain.MapDataset]) -> grain.MapDataset:
  """Returns batches of named parts, {name: batch}; one of each part a step."""
  names = list(parts)
  # Endless, but not of the same huge length, as zipping asks for.
  length = min(len(dataset) for dataset in parts.values())
  equal = [dataset[:length] for dataset in parts.values()]
  zipped = grain.experimental.ZipMapDataset(equal)
  return zipped.map(lambda batches: dict(zip(names, batches, strict=True)))


def iterator(dataset: grain.MapDataset) -> grain.DatasetIterator:
  """Returns an iterator whose position is checkpointed with the state."""
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
  return iter(dataset.to_iter_dataset(options))
