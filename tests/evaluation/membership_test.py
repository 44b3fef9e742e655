"""Membership and memorization by hand, and AUC against scikit-learn and all pairs."""

import numpy as np
import pytest
from sklearn import metrics

from undo_jax.evaluation import membership, memorization
from undo_jax.evaluation.scoring import TokenScores


def scores(log_p, standardized=None):
  arrays = (np.float32(log_p), np.zeros(len(log_p), bool))
  return TokenScores(
    *arrays, None if standardized is None else np.float32(standardized)
  )


def test_min_k_is_the_mean_of_the_least_likely_tokens():
  text = scores([-1, -5, -2, -4, -3])
  assert membership.loss(text) == 3.0
  assert membership.min_k(text) == 4.5  # Two of five: 5 and 4.
  assert membership.min_k(text, 0.2) == 5.0
  assert membership.min_k(text, 0.59) == 4.5  # Rounded down.
  assert membership.min_k(scores([-2, -3]), 0.1) == 3.0  # One at least.
  assert membership.min_k(text, 1.0) == membership.loss(text)


def test_min_k_plus_plus_is_the_same_of_standardized_ones():
  text = scores([-9, -9, -9, -9, -9], [0.5, -2.0, 1.0, -1.0, 0.0])
  assert membership.min_k_plus_plus(text) == 1.5
  assert membership.min_k_plus_plus(text, 0.2) == 2.0


def test_auc_counts_pairs_in_which_the_forget_text_is_the_more_surprising():
  forget, holdout = [1.0, 2.0, 3.0], [2.0, 4.0]
  # Of 6 pairs 3 > 2, and 2 = 2 is half of one.
  assert membership.auc(forget, holdout) == 1.5 / 6
  assert membership.auc(forget, forget) == 0.5
  assert membership.auc([0.0, 1.0], [2.0, 3.0]) == 0.0


def test_auc_is_one_less_that_of_open_unlearning():
  """There label 1 is of the texts that were never seen."""
  rng = np.random.default_rng(0)
  forget, holdout = rng.normal(0, 1, 40).round(1), rng.normal(0.5, 1, 30).round(1)
  labels = [0] * 40 + [1] * 30
  expected = 1 - metrics.roc_auc_score(labels, [*forget, *holdout])
  assert membership.auc(forget, holdout) == pytest.approx(expected)


def test_privacy_leakage_is_how_far_the_auc_is_from_the_references():
  assert membership.privacy_leakage(0.5, 0.5) == 0
  assert membership.privacy_leakage(0.0, 0.5) == pytest.approx(-100)
  assert membership.privacy_leakage(0.75, 0.6) == pytest.approx(25)


@pytest.mark.parametrize(
  ("hits", "exact", "strength", "needing"),
  [
    ([1, 0, 1, 1], 0.75, 0.5, 0.5),  # From the third token on.
    ([1, 1, 1, 1], 1.0, 1.0, 1.0),
    ([1, 1, 1, 0], 0.75, 0.0, 0.25),  # No ending at all.
    ([0, 0, 0, 0], 0.0, 0.0, 0.25),
    ([0, 1, 1, 1, 1], 0.8, 0.8, 0.8),
    ([1], 1.0, 1.0, 1.0),
  ],
)
def test_what_is_known_by_heart(hits, exact, strength, needing):
  hits = np.array(hits, bool)
  assert memorization.exact(hits) == exact
  assert memorization.extraction_strength(hits) == pytest.approx(strength)
  actual = memorization.extraction_strength(hits, needs_token=True)
  assert actual == pytest.approx(needing)


def test_rouge_is_of_words_in_order():
  truth, text = "one two three four", "one three nine"
  assert memorization.rouge_l([truth], [text]) == [0.5]
  # Precision 2/3, recall 1/2.
  (actual,) = memorization.rouge_l([truth], [text], statistic="fmeasure")
  assert actual == pytest.approx(4 / 7)
