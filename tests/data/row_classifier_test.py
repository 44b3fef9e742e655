"""The classifier of rows: against scikit-learn's own n-grams, and scipy's minimum."""

import itertools
import sys

import numpy as np
import pytest
from scipy import optimize
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize

from undo_jax.data import row_classifier
from undo_jax.utils.errors import ConfigError

VOCABULARY = 20


def drawn(count, length=9, seed=0):
  """Return tokens [count, length], and labels that token 3 has most to do with."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(0, VOCABULARY, (count, length)).astype(np.int32)
  return tokens, (tokens == 3).any(axis=1) ^ (rng.random(count) < 0.1)


def features(tokens):
  """Return which words and pairs are in texts of the tokens, rows of norm 1."""
  texts = [" ".join(map(str, row)) for row in tokens]
  counter = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", binary=True)
  return normalize(counter.fit_transform(texts)).toarray()


def test_n_grams_are_those_of_scikit_learn_in_other_columns():
  tokens, _ = drawn(40)
  actual, expected = row_classifier.n_grams(tokens), features(tokens)
  np.testing.assert_allclose((actual @ actual.T).toarray(), expected @ expected.T)
  assert np.count_nonzero(actual.sum(axis=0)) == expected.shape[1]


def test_pairs_of_a_small_vocabulary_share_no_column():
  pairs = np.array(list(itertools.product(range(200), repeat=2)))
  grams = row_classifier.n_grams(pairs)
  last = grams.indices[grams.indptr[1:] - 1]  # Pairs come after tokens.
  assert len(set(last.tolist())) == 200**2
  columns = row_classifier.COLUMNS
  assert all(columns % divisor for divisor in range(2, int(columns**0.5) + 1))


@pytest.mark.parametrize("count, kinds", [(2, 1), (30, 6)])
def test_odds_are_those_of_the_least_loss(count, kinds):
  """Also of kinds that are unequally many."""
  tokens, _ = drawn(count + 5)
  is_retain = np.arange(count) >= kinds
  x = features(tokens)
  sign = np.where(is_retain, 1.0, -1.0)
  weight = np.where(is_retain, count / 2 / (count - kinds), count / 2 / kinds)

  def loss(parameters):
    w, b = parameters[:-1], parameters[-1]
    margins = sign * (x[:count] @ w + b)
    slope = -weight * sign / (1 + np.exp(margins))
    value = weight @ np.logaddexp(0, -margins) + row_classifier.PENALTY / 2 * w @ w
    return value, np.append(
      x[:count].T @ slope + row_classifier.PENALTY * w, slope.sum()
    )

  options = {"gtol": 1e-9, "ftol": 0.0, "maxiter": 5000}
  zeros = np.zeros(x.shape[1] + 1)
  best = optimize.minimize(loss, zeros, jac=True, method="L-BFGS-B", options=options).x
  classifier = row_classifier.train(tokens[:count], is_retain)
  odds = row_classifier.scores(classifier, [tokens[:3], tokens[3:]])
  assert 0 < classifier.iterations < row_classifier.MOST_ITERATIONS
  np.testing.assert_allclose(odds, x @ best[:-1] + best[-1], atol=2e-3)


def test_rows_that_a_token_tells_apart_are_told_apart_by_a_few():
  tokens, _ = drawn(2000)
  tokens[tokens == 3] = 4
  tokens[::2, 5] = 3
  is_retain = np.arange(2000) % 2 == 0
  classifier = row_classifier.train(tokens[:200], is_retain[:200])
  is_selected = row_classifier.scores(classifier, [tokens]) > 0
  np.testing.assert_array_equal(is_selected, is_retain)


def test_chunks_change_nothing_and_nothing_is_drawn():
  tokens, is_retain = drawn(200)
  results = [
    row_classifier.scores(
      row_classifier.train(tokens[:50], is_retain[:50]),
      (tokens[start : start + size] for start in range(0, 200, size)),
    )
    for size in (200, 7)
  ]
  np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("is_retain, kind", [(True, "retain"), (False, "forget")])
def test_labels_of_one_kind_are_refused(is_retain, kind):
  tokens, _ = drawn(4)
  with pytest.raises(ConfigError, match=f"both kinds.* all 4 are {kind} rows") as error:
    row_classifier.train(tokens, np.full(4, is_retain))
  assert "\n" not in str(error.value)


def test_a_pass_takes_a_multiplication_and_an_addition_an_n_gram():
  tokens, _ = drawn(1, length=5)
  tokens[0] = range(5)
  assert row_classifier.n_grams(tokens).nnz == 5 + 4
  assert row_classifier.flops(length=4, rows=7) == 2 * 9 * 7


def test_what_is_not_installed_is_told_with_what_brings_it(monkeypatch):
  row_classifier.check_installed()
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(ConfigError, match=r"pip install 'undo-jax\[selection\]'"):
    row_classifier.check_installed()
