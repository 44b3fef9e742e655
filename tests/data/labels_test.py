"""Which rows are labelled: by brute force over small splits."""

from fractions import Fraction
import itertools
import math

import numpy as np
import pytest

from undo_jax.data import labels, pipeline
from undo_jax.utils.types import ConfigError

ROWS = [
  {"tokens": np.array([i, i, i], np.int32), "mask": np.ones(3, np.uint8)}
  for i in range(50)
]


def chosen(share, which, size=50):
  rows = labels.Chosen(ROWS[:size], share, which)
  return [int(rows[i]["tokens"][0]) for i in range(len(rows))]


def test_ranks_are_permutations():
  for size in range(1, 200):
    assert sorted(labels.ranks(size)) == list(range(size))


def test_the_share_is_exact_and_a_larger_one_holds_the_smaller():
  before = set()
  for percent in range(101):
    labelled = set(chosen(percent / 100, "labelled"))
    assert len(labelled) == math.floor(Fraction(percent, 100) * 50)
    assert before <= labelled
    assert sorted(labelled | set(chosen(percent / 100, "unlabelled"))) == [*range(50)]
    before = labelled


def test_labels_are_spread_over_the_whole_split():
  is_labelled = labels.ranks(10_000) < labels.count(10_000, 0.25)
  # Of every hundred neighbours a quarter, give or take three.
  for block in is_labelled.reshape(100, 100):
    assert 22 <= block.sum() <= 28


def test_rows_tell_their_source_and_are_otherwise_the_same():
  rows = labels.WithSource(ROWS, 0.3, labelled=0, otherwise=2)
  assert len(rows) == 50
  known = set(chosen(0.3, "labelled"))
  for i, row in enumerate(ROWS):
    got = rows[i]
    assert got["source"] == (0 if i in known else 2)
    assert got["source"].dtype == np.int32
    np.testing.assert_array_equal(got["tokens"], row["tokens"])
  batch = pipeline.mixture([rows], seed=1, batch_size=8)[0]
  plain = pipeline.mixture([ROWS], seed=1, batch_size=8)[0]
  assert batch.pop("source").tolist() == [
    0 if i in known else 2 for i in batch["inputs"][:, 0]
  ]
  assert batch.keys() == plain.keys()
  for name, array in plain.items():
    np.testing.assert_array_equal(batch[name], array)


def test_names_tell_their_split():
  for name in ("forget", "forget:labelled", "forget:unlabelled"):
    assert labels.split_of(name) == "forget"


def test_a_label_that_no_row_has_is_an_error():
  sizes = {"forget": 10, "retain": 10}
  every = [f"forget{which}" for which in ("", ":labelled", ":unlabelled")]
  for name, share in itertools.product(every, (0.1, 0.5, 0.99)):
    labels.check(sizes, {name: 1.0, "retain": 1.0}, share)
  for name, share in (
    ("forget", 0.09),
    ("forget:labelled", 0.09),
    ("forget:unlabelled", 1.0),
  ):
    with pytest.raises(
      ConfigError, match="labels.share: at .* of the 10 rows of 'forget'"
    ):
      labels.check(sizes, {name: 1.0}, share)
