"""A classifier of rows, retain or forget data, that learns from a few labelled ones.

A row is described by its single tokens and pairs of neighbouring tokens, padding
included: x has 1 / sqrt(n) at each of its n n-grams and 0 elsewhere. A logistic
regression on x, with the squared norm of its weights as penalty, works with one label
of each kind as well as with thousands. Naive Bayes is no better with few labels of
equations; on made-up facts it takes nearly all rows for retain data, with 6 labels as
with 400, since it counts n-grams as independent evidence. Both kinds have the same
total weight, however many rows each has, so that a rare kind is not taken for the
other.

Nothing is drawn here: the same rows give the same classifier.
"""

from collections.abc import Iterable
import importlib.util
from typing import NamedTuple

import numpy as np
from scipy import sparse

from undo_jax.utils import extras
from undo_jax.utils.errors import ConfigError

# A prime: n-grams share a column where their numbers are equal modulo it. No tokens of
# vocabularies of up to so many do, and few pairs.
COLUMNS = 262_139
# Of a pair (a, b) the number is a * STEP + b: by the golden section, so that pairs of
# tokens below some hundreds have columns of their own.
STEP = round(COLUMNS * (5**0.5 - 1) / 2)
# Of rows that are learned from, so many tokens at most: 0.3 GB of n-grams.
MOST_TOKENS = 2**22
PENALTY = 0.01  # Of the squared norm of the weights, over 2; of each row's loss 1.
TOLERANCE = 1e-6  # Of the largest slope of the mean loss, where fitting ends.
MOST_ITERATIONS = 1000


class Classifier(NamedTuple):
  """Logistic regression of n-grams: log-odds of retain data w x + b."""

  weights: np.ndarray  # w, float64 [2 * COLUMNS]; 0 where no labelled row has one.
  bias: float
  iterations: int  # Of L-BFGS, until the least loss.


def check_installed() -> None:
  """Raise ConfigError if scikit-learn is not installed."""
  if importlib.util.find_spec("sklearn") is None:
    raise ConfigError(
      "config.selections: expected scikit-learn, whose classifier selects rows, but it "
      f"is not installed; {extras.install('selection')}"
    )


def n_grams(tokens: np.ndarray) -> sparse.csr_matrix:
  """Return which n-grams are in rows, as rows of norm 1.

  Args:
    tokens: int [rows, L + 1].

  Returns:
    float64 [rows, 2 * COLUMNS]: single tokens, then pairs of neighbours.
  """
  whole = tokens.astype(np.int64)
  pairs = (whole[:, :-1] * STEP + whole[:, 1:]) % COLUMNS
  columns = np.concatenate([whole % COLUMNS, COLUMNS + pairs], axis=1)
  columns.sort(axis=1)
  is_new = np.ones(columns.shape, bool)
  is_new[:, 1:] = columns[:, 1:] != columns[:, :-1]
  counts = is_new.sum(axis=1)
  values = np.repeat(1 / np.sqrt(counts), counts)
  starts = np.concatenate([[0], np.cumsum(counts)])
  shape = (len(tokens), 2 * COLUMNS)
  return sparse.csr_matrix((values, columns[is_new], starts), shape=shape)


def train(tokens: np.ndarray, is_retain: np.ndarray) -> Classifier:
  """Return the classifier that is fitted to labelled rows.

  w, b = argmin sum_i c_i log(1 + exp(-y_i (w x_i + b))) + PENALTY / 2 |w|^2

  with y_i = 1 of retain rows and -1 of others, and c_i so that both kinds weigh n / 2.

  Args:
    tokens: int [n, L + 1], of labelled rows.
    is_retain: bool [n], their labels.

  Raises:
    ConfigError: if all rows are of one kind.
  """
  from sklearn import linear_model  # Here, since other runs go without it.

  if np.all(is_retain) or not np.any(is_retain):
    kind = "retain" if np.any(is_retain) else "forget"
    raise ConfigError(
      f"a selection needs labelled rows of both kinds, retain and forget, but all "
      f"{len(is_retain)} are {kind} rows; label some of the other kind"
    )
  x = n_grams(tokens)
  # What no labelled row has gets no weight: without it there is much less to fit.
  known, columns = np.unique(x.indices, return_inverse=True)
  x = sparse.csr_matrix((x.data, columns, x.indptr), shape=(len(tokens), len(known)))
  model = linear_model.LogisticRegression(
    C=1 / PENALTY, class_weight="balanced", tol=TOLERANCE, max_iter=MOST_ITERATIONS
  ).fit(x, is_retain)
  weights = np.zeros(2 * COLUMNS)
  weights[known] = model.coef_[0]
  return Classifier(weights, float(model.intercept_[0]), int(model.n_iter_[0]))


def scores(classifier: Classifier, chunks: Iterable[np.ndarray]) -> np.ndarray:
  """Return the log-odds that rows are retain data, float64 [rows].

  Args:
    classifier: see `train`.
    chunks: int [rows, L + 1] each; one at a time is in memory.
  """
  products = [n_grams(tokens) @ classifier.weights for tokens in chunks]
  return np.concatenate(products) + classifier.bias


def flops(*, length: int, rows: int) -> int:
  """Return what a pass over rows takes: a multiplication and addition an n-gram.

  Args:
    length: L; a row has L + 1 tokens and L pairs.
    rows: that are scored, or read in an iteration, forward and once more backward.
  """
  return 2 * (2 * length + 1) * rows
