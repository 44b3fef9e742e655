"""Order by (seed, step) only; shares, parts, pairs and resume."""

import numpy as np
import pytest

from undo_jax.data import packing, pipeline, rows
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.utils.types import ConfigError


class Source:
  """Rows whose first target is `offset` + their index."""

  def __init__(self, size, offset=0):
    self.size, self.offset = size, offset

  def __len__(self):
    return self.size

  def __getitem__(self, index):
    tokens = np.array([0, self.offset + index], np.int32)
    return {"tokens": tokens, "mask": np.ones(2, np.uint8)}


def ids(batch):
  return batch["targets"][:, 0].tolist()


def test_an_epoch_holds_every_row_once_and_the_next_in_another_order():
  dataset = pipeline.mixture([Source(12)], seed=3, batch_size=4)
  first = [i for step in range(3) for i in ids(dataset[step])]
  second = [i for step in range(3, 6) for i in ids(dataset[step])]
  assert sorted(first) == sorted(second) == list(range(12))
  assert first != second


def test_the_seed_decides_the_order():
  orders = [
    ids(pipeline.mixture([Source(50)], seed=seed, batch_size=50)[0])
    for seed in (1, 1, 2)
  ]
  assert orders[0] == orders[1] != orders[2]


def test_mixture_follows_the_weights():
  sources = [Source(10_000), Source(10_000, offset=10_000)]
  dataset = pipeline.mixture(sources, weights=[0.8, 0.2], seed=0, batch_size=1000)
  share = np.mean(np.array(ids(dataset[0])) >= 10_000)
  # Grain mixes by a fixed pattern, so the share is exact up to rounding.
  assert abs(share - 0.2) < 0.01


SHARDS = [
  (2, [(0,), (1,)]),
  (4, [(0,), (1,), (2,), (3,)]),
  (4, [(0, 2), (1, 3)]),  # Not side by side.
  (2, [(0, 1), (0, 1)]),  # The same for both, as members of a population have it.
]


@pytest.mark.parametrize("num_shards, processes", SHARDS)
def test_processes_read_the_parts_of_one_global_batch(num_shards, processes):
  sources = [Source(64), Source(64, offset=64)]

  def dataset(shards, num_shards):
    return pipeline.mixture(
      sources, seed=5, batch_size=8, shards=shards, num_shards=num_shards
    )

  size = 8 // num_shards
  for step in (0, 3, 40):
    whole = ids(dataset((0,), 1)[step])
    for shards in processes:
      expected = [i for shard in shards for i in whole[shard * size :][:size]]
      assert ids(dataset(shards, num_shards)[step]) == expected
  rows = pipeline.rows_of(
    dict(zip("ab", sources, strict=True)), 40, seed=5, batch_size=8
  )
  assert rows["a"] == [i for i in whole if i < 64]
  assert rows["b"] == [i - 64 for i in whole if i >= 64]


def test_pairs_keep_their_domains():
  parts = {
    "forget": pipeline.mixture([Source(8)], seed=0, batch_size=4),
    "retain": pipeline.mixture([Source(8, offset=8)], seed=0, batch_size=2),
  }
  batch = next(pipeline.iterator(pipeline.paired(parts)))
  assert all(i < 8 for i in ids(batch["forget"])) and len(ids(batch["forget"])) == 4
  assert all(i >= 8 for i in ids(batch["retain"])) and len(ids(batch["retain"])) == 2


def test_an_iterator_begins_at_any_step():
  dataset = pipeline.mixture([Source(30)], seed=1, batch_size=4)
  iterator = pipeline.iterator(dataset)
  for _ in range(5):
    next(iterator)
  expected = [ids(next(iterator)) for _ in range(4)]
  resumed = pipeline.iterator(dataset, start=5)
  assert [ids(next(resumed)) for _ in range(4)] == expected


def test_bad_batches_and_empty_sources_are_refused():
  with pytest.raises(ConfigError, match="multiple of 2, the parts .* got 3"):
    pipeline.mixture([Source(4)], seed=0, batch_size=3, num_shards=2)
  with pytest.raises(ConfigError, match="empty"):
    pipeline.mixture([Source(0)], seed=0, batch_size=2)


@pytest.mark.parametrize("in_memory_bytes", [0, 2**20])
def test_rows_come_back_from_disk(tmp_path, monkeypatch, in_memory_bytes):
  monkeypatch.setattr(rows, "IN_MEMORY_BYTES", in_memory_bytes)
  documents = [[5, 6, 7], [8], [9, 10]]
  packed = list(
    packing.rows(documents, 6, mode="one_per_row", tokenizer=ByteTokenizer())
  )
  splits = {"retain": lambda: iter(packed), "forget": lambda: iter(packed[:1])}
  assert rows.build(tmp_path, length=6, splits=splits) == {"retain": 3, "forget": 1}
  rows.source.cache_clear()
  source = rows.source(tmp_path, length=6, split="retain")
  for index, (tokens, mask) in enumerate(packed):
    np.testing.assert_array_equal(source[index]["tokens"], tokens)
    np.testing.assert_array_equal(source[index]["mask"], mask)


# MARK: streams that end


def global_rows(dataset):
  return [i for step in range(len(dataset)) for i in ids(dataset[step])]


CASES = [
  ((10, 30), (0.5, 0.5)),
  ((7, 40, 23), (0.2, 0.5, 0.3)),
  ((50, 3), (0.99, 0.01)),
  ((20, 20), (0.35, 0.65)),
  ((9,), None),
  ((6, 11), None),
]


@pytest.mark.parametrize("stopping", ["first_exhausted", "all_exhausted"])
@pytest.mark.parametrize("sizes, weights", CASES)
def test_a_stream_ends_with_the_last_row_of_the_first_or_last_source(
  sizes, weights, stopping
):
  # Taken from the endless stream row by row, by the definition of the rule.
  offsets = np.cumsum([0, *sizes])
  sources = [Source(n, offset=o) for n, o in zip(sizes, offsets[:-1], strict=True)]
  endless = pipeline.mixture(sources, weights=weights, seed=3, batch_size=1)
  expected, missing = [], [set(range(n)) for n in sizes]
  done = any if stopping == "first_exhausted" else all
  while not done(not rows for rows in missing):
    row = ids(endless[len(expected)])[0]
    source = int(np.searchsorted(offsets, row, side="right")) - 1
    missing[source].discard(row - offsets[source])
    expected.append(row)
  dataset = pipeline.mixture(
    sources, weights=weights, seed=3, batch_size=1, stopping=stopping
  )
  assert global_rows(dataset) == expected
  batches = pipeline.mixture(
    sources, weights=weights, seed=3, batch_size=4, stopping=stopping
  )
  assert global_rows(batches) == expected[: len(expected) // 4 * 4]


def test_the_length_of_a_large_mixture_follows_from_its_weights():
  sources = [Source(10**9), Source(10**8, offset=10**9)]
  length = {
    stopping: len(
      pipeline.mixture(
        sources, weights=[0.75, 0.25], seed=0, batch_size=1, stopping=stopping
      )
    )
    for stopping in ("first_exhausted", "all_exhausted")
  }
  assert abs(length["first_exhausted"] - 10**8 / 0.25) <= 4
  assert abs(length["all_exhausted"] - 10**9 / 0.75) <= 4


def test_shares_converge_to_the_weights():
  weights = np.array([0.35, 0.6, 0.05])
  sources = [Source(300, offset=300 * i) for i in range(3)]
  dataset = pipeline.mixture(
    sources, weights=list(weights), seed=1, batch_size=1, stopping="all_exhausted"
  )
  rows = np.array(global_rows(dataset)) // 300
  for count in (10, 100, 1000, len(rows)):
    shares = np.bincount(rows[:count], minlength=3)
    assert np.all(np.abs(shares - count * weights) <= 3)
  assert abs(len(rows) - 300 / 0.05) <= 60


@pytest.mark.parametrize("stopping", ["first_exhausted", "all_exhausted"])
def test_processes_share_a_stream_that_ends(stopping):
  def dataset(index, count):
    return pipeline.mixture(
      [Source(21), Source(34, offset=21)],
      weights=[0.3, 0.7],
      seed=5,
      batch_size=8,
      stopping=stopping,
      shards=(index,),
      num_shards=count,
    )

  whole, parts = dataset(0, 1), [dataset(index, 4) for index in range(4)]
  assert {len(part) for part in parts} == {len(whole)}
  for step in range(len(whole)):
    shared = [i for part in parts for i in ids(part[step])]
    assert shared == ids(whole[step])


def test_a_stream_that_ends_goes_on_from_any_step():
  dataset = pipeline.mixture(
    [Source(30), Source(12, offset=30)],
    weights=[0.5, 0.5],
    seed=1,
    batch_size=4,
    stopping="all_exhausted",
  )
  expected = [ids(batch) for batch in pipeline.iterator(dataset)]
  assert len(expected) == 14  # 59 rows: the larger source begins.
  for step in (0, 1, 7, len(expected) - 1, len(expected)):
    resumed = pipeline.iterator(dataset, start=step)
    assert [ids(batch) for batch in resumed] == expected[step:]


def test_a_stream_without_a_batch_or_of_unknown_end_is_refused():
  with pytest.raises(
    ConfigError, match="at most the 3 rows until first_exhausted, got"
  ):
    pipeline.mixture([Source(3)], seed=0, batch_size=4, stopping="first_exhausted")
  with pytest.raises(ConfigError, match="stopping: expected one of"):
    pipeline.mixture([Source(3)], seed=0, batch_size=1, stopping="never")
