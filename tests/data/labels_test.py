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


@pytest.mark.parametrize(
  "name, expected, in_stage",
  [
    ("forget", ("forget", None, ""), "forget"),
    ("forget:few", ("forget", "few", "selected"), "forget:selected"),
    ("forget:few:labelled", ("forget", "few", "labelled"), "forget:labelled"),
  ],
)
def test_names_of_a_mixture_tell_split_selection_and_which(name, expected, in_stage):
  named = labels.named(name)
  assert named == expected
  assert named.in_config == name and named.in_stage == in_stage
  assert labels.split_of(named.in_stage) == "forget"


def test_what_is_drawn_is_a_share_at_least_one_row_and_grows():
  before = []
  for percent in (0.01, 1, 5, 50, 100):
    sample = labels.drawn(40, percent / 100, 3).tolist()
    assert len(sample) == max(1, math.floor(Fraction(percent) * 40 / 100))
    assert sample[: len(before)] == before and len({*sample}) == len(sample)
    before = sample
  assert sorted(before) == [*range(40)]
  assert before != labels.drawn(40, 1.0, 4).tolist()


def test_each_row_is_as_likely_to_be_drawn():
  counts = np.zeros(10)
  for seed in range(2000):
    counts[labels.drawn(10, 0.3, seed)] += 1
  # 600 of 2,000 each, five standard deviations being 102.
  assert np.all(np.abs(counts - 600) < 102)


def test_a_stream_is_mixed_as_one_whose_other_rows_are_left_out():
  rows, kept = {"a": 50, "b": 20, "c": 5}, {"a": 10, "b": 20, "c": 0}
  stream = {"a:selected": 3.0, "b:selected": 1.0, "c:selected": 2.0}
  # Of 1,000 rows by weight, those that are kept.
  left = {s: 1000 * w / 6 * kept[s[0]] / rows[s[0]] for s, w in stream.items()}
  total = sum(left.values())
  weights = labels.selected_weights(stream, rows, kept)
  assert {*weights} == {"a:selected", "b:selected"}
  for name, weight in weights.items():
    assert weight / sum(weights.values()) == pytest.approx(left[name] / total)
  labelled = {"a:labelled": 3.0, "c:labelled": 2.0}
  assert labels.selected_weights(labelled, rows, kept) == labelled


def test_a_subset_has_the_rows_of_its_numbers():
  rows = labels.Subset(ROWS, np.array([7, 0, 49]))
  assert [int(rows[i]["tokens"][0]) for i in range(len(rows))] == [7, 0, 49]


@pytest.mark.parametrize(("size", "count"), [(50, 3), (7, 7), (20, 1)])
def test_folds_are_disjoint_spread_and_whole(size, count):
  def rows_of(first, last):
    which = labels.folds(first, last, count)
    assert labels.Folds.are(which) and not labels.Folds.are(labels.LABELLED)
    rows = labels.Folds(ROWS[:size], which)
    return [int(rows[i]["tokens"][0]) for i in range(len(rows))]

  each = [rows_of(k, k) for k in range(1, count + 1)]
  assert sorted(itertools.chain(*each)) == list(range(size))
  assert all(abs(len(fold) - size / count) < 1 for fold in each)
  for first, last in itertools.combinations(range(1, count + 1), 2):
    joined = itertools.chain(*each[first - 1 : last])
    assert rows_of(first, last) == sorted(joined)
  if (size, count) == (50, 3):  # From everywhere in the split.
    assert all(np.diff(fold).max() <= 8 for fold in each)
