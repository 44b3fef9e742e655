"""The Grain pipeline: rows of one or several domains to a stream of batches.

One order of transforms everywhere: seed, shuffle, repeat, mix, stop, shard by process,
batch, shift. The order depends on (seed, step) only.
"""

import bisect
from collections.abc import Mapping, Sequence
import sys
from typing import Any

import grain

from undo_jax.data.packing import to_batch
from undo_jax.types import ConfigError

STOPPING = ("endless", "first_exhausted", "all_exhausted")


def mixture(
  sources: Sequence[Any],
  *,
  seed: int,
  batch_size: int,
  weights: Sequence[float] | None = None,
  stopping: str = "endless",
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset:
  """Returns batches drawn from sources by probability.

  Of n rows, each source gives its share n w_i / sum(w), up to rounding. A source that
  is used up begins anew in another order, until the stream stops.

  Args:
    sources: random-access rows, see data.rows.
    seed: of the order; each source's is derived from it.
    batch_size: rows over all processes.
    weights: probability of each source; None: equal.
    stopping: "endless"; "first_exhausted": ends when the first source has given all
      of its rows; "all_exhausted": when every source has given all of its rows at
      least once. Only whole batches are given: the rows of a last part are not.
    process_index: which part of every batch this process reads.
    process_count: number of parts.

  Returns:
    A MapDataset of batches {"inputs", "targets", "mask"} (see packing.to_batch)
    with batch_size / process_count rows.

  Raises:
    ConfigError: if the batch does not divide over the processes, a source is empty,
      stopping is unknown, or a stream that ends has no whole batch.
  """
  if stopping not in STOPPING:
    raise ConfigError(f"stopping: expected one of {STOPPING}, got {stopping!r}")
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
  dataset = _mix(shuffled, weights)
  if stopping != "endless":
    sizes = [len(source) for source in sources]
    num_batches = _num_rows(sizes, weights, stopping) // batch_size
    if not num_batches:
      raise ConfigError(
        f"batch_size: expected at most the {_num_rows(sizes, weights, stopping)} rows "
        f"until {stopping}, got {batch_size}; lower it or give more documents"
      )
    dataset = dataset[: num_batches * batch_size]
  # Rows process_index, process_index + process_count, ...: the same global batch
  # however many processes read it.
  dataset = dataset[process_index::process_count]
  return dataset.batch(batch_size // process_count).map(to_batch)


def _mix(
  parts: Sequence[grain.MapDataset], weights: Sequence[float] | None
) -> grain.MapDataset:
  if len(parts) == 1:
    return parts[0]
  return grain.MapDataset.mix(parts, weights or [1.0] * len(parts))


def _num_rows(
  sizes: Sequence[int], weights: Sequence[float] | None, stopping: str
) -> int:
  """Returns after how many rows of an endless mixture it is to stop.

  Mixes the numbers of sources and rows instead of the rows, and looks for the place
  of each source's last row by bisection.
  """
  numbered = [
    grain.MapDataset.range(sys.maxsize).map(lambda row, source=source: (source, row))
    for source in range(len(sizes))
  ]
  mixed: Any = _mix(numbered, weights)

  def next_row(source: int, place: int) -> tuple[int, int]:
    """Returns a source's first row from a place on, and that row's place."""
    while (found := mixed[place])[0] != source:
      place += 1
    return found[1], place

  def place_of_last(source: int) -> int:
    last = sizes[source] - 1
    places = range(sys.maxsize // 2)
    place = bisect.bisect_left(places, last, key=lambda p: next_row(source, p)[0])
    return next_row(source, place)[1]

  places = map(place_of_last, range(len(sizes)))
  return 1 + (min if stopping == "first_exhausted" else max)(places)


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
