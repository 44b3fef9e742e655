"""The Grain pipeline: rows of one or several domains to a stream of batches.

One order of transforms everywhere: seed, shuffle, repeat, mix, stop, batch, take this
process's part, shift. The order depends on (seed, step) only.
"""

import bisect
from collections.abc import Mapping, Sequence
import sys
from typing import Any

import grain
import numpy as np

from undo_jax.data.packing import to_batch
from undo_jax.utils.types import ConfigError, Rows

STOPPING = ("endless", "first_exhausted", "all_exhausted")


def mixture(
  sources: Sequence[Rows],
  *,
  seed: int,
  batch_size: int,
  weights: Sequence[float] | None = None,
  stopping: str = "endless",
  shards: Sequence[int] = (0,),
  num_shards: int = 1,
) -> grain.MapDataset:
  """Return batches drawn from sources by probability.

  Of n rows, each source gives its share n w_i / sum(w), up to rounding. A source that
  is used up starts over in another order, until the stream stops.

  Args:
    sources: random-access rows, see data.rows.
    seed: of the order; each source's is derived from it.
    batch_size: rows over all processes.
    weights: probability of each source; None: equal.
    stopping: "endless"; "first_exhausted": ends when the first source has given all
      of its rows; "all_exhausted": when every source has given all of its rows at
      least once. Only whole batches are given; the rows of an incomplete last one are
      dropped.
    shards: which parts of every batch are read here, see sharding.batch_shards.
    num_shards: number of equal parts, runs of rows, that a batch is divided into.

  Returns:
    A MapDataset of batches {"inputs", "targets", "mask"} (see packing.to_batch),
    whose rows are those of the parts, one part after the other.

  Raises:
    ConfigError: if the batch does not divide into the parts, a source is empty,
      stopping is unknown, or a stream that ends has no whole batch.
  """
  if stopping not in STOPPING:
    raise ConfigError(f"stopping: expected one of {STOPPING}, got {stopping!r}")
  if batch_size < 1 or batch_size % num_shards:
    raise ConfigError(
      f"batch_size must be a positive multiple of {num_shards}, the parts that the "
      f"devices divide it into, got {batch_size}"
    )
  if any(len(source) == 0 for source in sources):
    raise ConfigError("a data source is empty; generate or give more documents")
  dataset = _mix(_shuffled(sources, seed), weights)
  if stopping == "endless":
    # Grain's length of what never ends is the largest there is; half of it can be
    # divided and rounded.
    num_batches = len(dataset) // 2 // batch_size
  else:
    sizes = [len(source) for source in sources]
    num_batches = _num_rows(sizes, weights, stopping) // batch_size
    if not num_batches:
      raise ConfigError(
        f"batch_size: expected at most the {_num_rows(sizes, weights, stopping)} rows "
        f"until {stopping}, got {batch_size}; lower it or give more documents"
      )
  dataset = dataset[: num_batches * batch_size]
  # A part is a batch of the smaller size; every num_shards-th is of the same part.
  parts = dataset.batch(batch_size // num_shards)
  own = [parts[shard::num_shards] for shard in shards]
  return (own[0] if len(own) == 1 else _joined(own)).map(to_batch)


def _joined(parts: Sequence[grain.MapDataset]) -> grain.MapDataset:
  """Return batches of all rows of one batch of each part."""
  zipped = _zipped(parts)
  return zipped.map(
    lambda rows: {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}
  )


def _zipped(parts: Sequence[grain.MapDataset]) -> grain.MapDataset:
  # Endless, but not of the same huge length, as zipping asks for.
  length = min(len(dataset) for dataset in parts)
  return grain.experimental.ZipMapDataset([dataset[:length] for dataset in parts])


def _shuffled(sources: Sequence[Any], seed: int) -> list[grain.MapDataset]:
  return [
    grain.MapDataset.source(source).seed(seed + index).shuffle().repeat(None)
    for index, source in enumerate(sources)
  ]


def _mix(
  parts: Sequence[grain.MapDataset], weights: Sequence[float] | None
) -> grain.MapDataset:
  if len(parts) == 1:
    return parts[0]
  return grain.MapDataset.mix(parts, weights or [1.0] * len(parts))


def _num_rows(
  sizes: Sequence[int], weights: Sequence[float] | None, stopping: str
) -> int:
  """Return after how many rows of an endless mixture it is to stop.

  Mixes the numbers of sources and rows instead of the rows, and looks for the place
  of each source's last row by bisection.
  """
  numbered = [
    grain.MapDataset.range(sys.maxsize).map(lambda row, source=source: (source, row))
    for source in range(len(sizes))
  ]
  mixed: Any = _mix(numbered, weights)

  def next_row(source: int, place: int) -> tuple[int, int]:
    """Return a source's first row from a place on, and that row's place."""
    while (row := mixed[place])[0] != source:
      place += 1
    return row[1], place

  def place_of_last(source: int) -> int:
    last = sizes[source] - 1
    places = range(sys.maxsize // 2)
    place = bisect.bisect_left(places, last, key=lambda p: next_row(source, p)[0])
    return next_row(source, place)[1]

  places = map(place_of_last, range(len(sizes)))
  return 1 + (min if stopping == "first_exhausted" else max)(places)


def paired(parts: Mapping[str, grain.MapDataset]) -> grain.MapDataset:
  """Return batches of named parts, {name: batch}; one of each part a step."""
  names = list(parts)
  zipped = _zipped(list(parts.values()))
  return zipped.map(lambda batches: dict(zip(names, batches, strict=True)))


def iterator(dataset: grain.MapDataset, *, start: int = 0) -> grain.DatasetIterator:
  """Return an iterator over the batches from that of step `start` on.

  A batch depends on its step alone, so the step suffices to resume, with any number of
  processes.
  """
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
  return iter(dataset[start:].to_iter_dataset(options))


class Numbered:
  """Stands in a source's place: as many rows, each its own name."""

  def __init__(self, name: str, source: Any):
    """Name the rows of a source `name`."""
    self._name, self._size = name, len(source)

  def __len__(self) -> int:
    return self._size

  def __getitem__(self, index: int) -> tuple[str, int]:
    return self._name, int(index)


def rows_of(
  sources: Mapping[str, object],
  step: int,
  *,
  seed: int,
  batch_size: int,
  weights: Sequence[float] | None = None,
) -> dict[str, list[int]]:
  """Return which rows the whole batch of a step of an endless `mixture` holds.

  Args:
    sources: by name, in the order of the mixture's.
    step: updates done before it.
    seed: the mixture's, like the arguments that follow.
    batch_size: rows over all processes.
    weights: of the sources.

  Returns:
    For each source that has some the indices of its rows, in the batch's order.
  """
  numbered = [Numbered(name, source) for name, source in sources.items()]
  dataset: Any = _mix(_shuffled(numbered, seed), weights)
  rows: dict[str, list[int]] = {}
  for place in range(step * batch_size, (step + 1) * batch_size):
    name, index = dataset[place]
    rows.setdefault(name, []).append(index)
  return rows
