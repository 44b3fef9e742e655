"""Held-out cross-entropy against float64 numpy."""

import functools

import jax
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.evaluation import cross_entropy
from undo_jax.models.decoder import Decoder
from undo_jax.objectives import chunked
from undo_jax.utils.types import ConfigError

LENGTH = 12
VOCABULARY = 131  # No other array is as wide.


def rows(seed, number):
  """Return packed rows whose scored parts differ in length."""
  rng = np.random.default_rng(seed)
  return [
    {
      "tokens": rng.integers(0, 16, LENGTH + 1),
      "mask": (np.arange(LENGTH + 1) <= rng.integers(1, LENGTH + 1)).astype(np.uint8),
    }
    for _ in range(number)
  ]


@functools.cache
def forward():
  return jax.jit(Decoder(testing.config(vocab_size=VOCABULARY)).apply)


# Parts of three rows must be filled up, as eight are asked for.
@pytest.mark.parametrize("rows_at_once, chunk", [(3, None), (100, None), (3, 5)])
def test_scores_are_means_over_tokens(rows_at_once, chunk):
  sources = {"retain": rows(1, 4), "forget": rows(2, 9)}
  problems = cross_entropy.problems(sources, 4)
  decoder = Decoder(testing.config(vocab_size=VOCABULARY, logits_chunk=chunk))
  params = testing.params(decoder.config)
  evaluate = cross_entropy.make_evaluate(
    chunked.deferring(decoder), ("retain", "forget"), rows_at_once=rows_at_once
  )
  scores = jax.jit(evaluate)(params, problems)
  whole = f",{LENGTH},{VOCABULARY}]"
  assert (whole in str(jax.make_jaxpr(evaluate)(params, problems))) == (chunk is None)
  for name, source in sources.items():
    tokens = np.stack([row["tokens"] for row in source[:4]])
    logits = np.asarray(forward()(params, tokens[:, :-1]).logits, np.float64)
    log_z = np.log(np.sum(np.exp(logits), axis=-1))
    total, count = 0.0, 0
    for i, row in enumerate(source[:4]):
      for t in range(LENGTH):
        if row["mask"][t + 1]:
          total += log_z[i, t] - logits[i, t, tokens[i, t + 1]]
          count += 1
    np.testing.assert_allclose(scores[name], total / count, rtol=1e-5)


def test_rows_without_a_scored_token_are_refused():
  source = rows(1, 4)
  for row in source:
    row["mask"][1:] = 0  # The first token is no target.
  with pytest.raises(ConfigError, match="in the 4 held-out rows of x, got none"):
    cross_entropy.problems({"forget": rows(1, 4), "x": source}, 4)
  source[3]["mask"][5] = 1
  cross_entropy.problems({"x": source}, 4)


def test_too_few_rows_are_refused():
  message = "expected 5 held-out rows of forget, got 4; lower data.num_evaluation_rows"
  with pytest.raises(ConfigError, match=message):
    cross_entropy.problems({"forget": rows(1, 4)}, 5)
