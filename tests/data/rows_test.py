"""Rows are written as they come, in the same bytes, and read back at random."""

import logging

import numpy as np
import psutil
import pytest

from undo_jax.data import rows
from undo_jax.utils.errors import ConfigError


def make_rows(count, length, seed=0):
  rng = np.random.default_rng(seed)
  for _ in range(count):
    tokens = rng.integers(0, 2**18, length + 1).astype(np.int32)
    yield tokens, rng.integers(0, 2, length + 1).astype(np.uint8)


@pytest.mark.parametrize("shard_bytes", [2**30, 300])
@pytest.mark.parametrize("in_memory_bytes", [0, 2**20])
def test_splits_may_come_in_any_order(
  tmp_path, monkeypatch, shard_bytes, in_memory_bytes
):
  monkeypatch.setattr(rows, "IN_MEMORY_BYTES", in_memory_bytes)
  monkeypatch.setattr(rows, "SHARD_BYTES", shard_bytes)
  monkeypatch.setattr(rows, "ROWS_PER_RECORD", 4)
  given = {"a": list(make_rows(30, 9, seed=1)), "b": list(make_rows(10, 9, seed=2))}
  stream = []
  for index in range(30):
    stream.append(("a", given["a"][index]))
    if index % 3 == 1:
      stream.append(("b", given["b"][index // 3]))
  sizes = rows.write(tmp_path, length=9, splits=["a", "b"], stream=stream)
  assert sizes == {"a": 30, "b": 10}
  rows.source.cache_clear()
  for split, expected in given.items():
    source = rows.source(tmp_path, length=9, split=split)
    assert len(source) == len(expected)
    for index, (tokens, mask) in enumerate(expected):
      np.testing.assert_array_equal(source[index]["tokens"], tokens)
      np.testing.assert_array_equal(source[index]["mask"], mask)
  shards = len(list(tmp_path.glob("rows/*/*.array_record-*")))
  assert shards == (2 if shard_bytes == 2**30 else 5 + 2)


def test_a_finished_dataset_is_left_alone(tmp_path):
  first = rows.write(tmp_path, length=4, splits=["a"], stream=_named(make_rows(3, 4)))
  again = rows.write(tmp_path, length=4, splits=["a"], stream=iter(["never read"]))
  assert first == again == {"a": 3}


def test_a_split_without_rows_is_refused_and_nothing_is_left(tmp_path):
  with pytest.raises(ConfigError, match="rows for the split 'b', got none"):
    rows.write(tmp_path, length=4, splits=["a", "b"], stream=_named(make_rows(3, 4)))
  assert not list(tmp_path.glob("rows/*"))


def test_rows_without_a_scored_token_are_told(tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(logging.getLogger("undo_jax"), "propagate", True)
  first = np.array([1, 0, 0, 0, 0], np.uint8)  # The first token is no target.
  scored = [(np.zeros(5, np.int32), mask) for mask in (first, np.roll(first, 1), first)]
  with pytest.raises(ConfigError, match="'a' with scored tokens, got none in 1; raise"):
    rows.write(tmp_path, length=4, splits=["a"], stream=_named(scored[:1]))
  assert not list(tmp_path.glob("rows/*")) and not caplog.text
  assert rows.write(tmp_path, length=4, splits=["a"], stream=_named(scored)) == {"a": 3}
  assert "2 of 3 rows of the split 'a' have no token that is scored" in caplog.text


def test_what_a_killed_process_left_is_removed(tmp_path):
  left = tmp_path / "rows" / "incomplete.ABC_1.0.0"
  left.mkdir(parents=True)
  rows.write(tmp_path, length=4, splits=["a"], stream=_named(make_rows(3, 4)))
  assert not left.exists()


def test_memory_does_not_grow_with_the_rows(tmp_path):
  row = next(make_rows(1, 4096))
  growth = []

  def stream():
    for index in range(6000):  # 123 MB of records.
      if index in (500, 5999):
        growth.append(psutil.Process().memory_info().rss)
      yield "a", row

  rows.write(tmp_path, length=4096, splits=["a"], stream=stream())
  assert growth[1] - growth[0] < 40e6


def _named(stream):
  return (("a", row) for row in stream)


def test_a_sample_holds_so_many_different_rows_the_same_for_a_seed():
  whole = list(range(100, 140))
  few = rows.Sample(whole, 15, seed=3)
  sample = [few[i] for i in range(len(few))]
  assert len(set(sample)) == 15 and set(sample) < set(whole)
  assert sample == [rows.Sample(whole, 15, seed=3)[i] for i in range(15)]
  assert sample != [rows.Sample(whole, 15, seed=4)[i] for i in range(15)]
  assert [rows.Sample(whole, 60, seed=3)[i] for i in range(40)] == whole
