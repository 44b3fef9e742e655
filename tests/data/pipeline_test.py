"""Order by (seed, step) only; shares, processes, pairs and resume."""

import numpy as np
import pytest

from undo_jax.data import packing, pipeline, rows
from undo_jax.data.tokenizers import ByteTokenizer
from undo_jax.types import ConfigError


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


@pytest.mark.parametrize("count", [2, 4])
def test_processes_read_the_parts_of_one_global_batch(count):
  def dataset(index, count):
    return pipeline.mixture(
      [Source(64), Source(64, offset=64)],
      seed=5,
      batch_size=8,
      process_index=index,
      process_count=count,
    )

  for step in (0, 3, 40):
    parts = [i for index in range(count) for i in ids(dataset(index, count)[step])]
    assert sorted(parts) == sorted(ids(dataset(0, 1)[step]))


def test_pairs_keep_their_domains():
  parts = {
    "forget": pipeline.mixture([Source(8)], seed=0, batch_size=4),
    "retain": pipeline.mixture([Source(8, offset=8)], seed=0, batch_size=2),
  }
  batch = next(pipeline.iterator(pipeline.paired(parts)))
  assert all(i < 8 for i in ids(batch["forget"])) and len(ids(batch["forget"])) == 4
  assert all(i >= 8 for i in ids(batch["retain"])) and len(ids(batch["retain"])) == 2


def test_an_iterator_goes_on_from_its_saved_state():
  dataset = pipeline.mixture([Source(30)], seed=1, batch_size=4)
  iterator = pipeline.iterator(dataset)
  for _ in range(5):
    next(iterator)
  state = iterator.get_state()
  expected = [ids(next(iterator)) for _ in range(4)]
  resumed = pipeline.iterator(dataset)
  resumed.set_state(state)
  assert [ids(next(resumed)) for _ in range(4)] == expected


def test_bad_batches_and_empty_sources_are_refused():
  with pytest.raises(ConfigError, match="multiple of the 2 processes, got 3"):
    pipeline.mixture([Source(4)], seed=0, batch_size=3, process_count=2)
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
