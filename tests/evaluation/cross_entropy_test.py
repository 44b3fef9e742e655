"""Held-out cross-entropy against float64 numpy."""

import jax
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.evaluation import cross_entropy
from undo_jax.models.decoder import Decoder
from undo_jax.utils.types import ConfigError

LENGTH = 12


def rows(key, number, length=LENGTH):
  batch = testing.batch(key, rows=number, length=length)
  first = np.asarray(batch["inputs"][:, :1])
  mask = np.asarray(batch["mask"], np.uint8)
  return [
    {"tokens": np.concatenate([f, t]), "mask": np.concatenate([[1], m])}
    for f, t, m in zip(first, np.asarray(batch["targets"]), mask, strict=True)
  ]


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_scores_are_means_over_tokens(rows_at_once):
  sources = {"retain": rows(jax.random.key(1), 4), "forget": rows(jax.random.key(2), 9)}
  problems = cross_entropy.problems(sources, 4)
  model = Decoder(testing.config())
  params = jax.jit(model.init)(jax.random.key(0))
  evaluate = cross_entropy.make_evaluate(
    model.apply, ("retain", "forget"), rows_at_once=rows_at_once
  )
  found, apply = jax.jit(evaluate)(params, problems), jax.jit(model.apply)
  for name, source in sources.items():
    total, count = 0.0, 0
    for row in source[:4]:
      tokens = np.asarray(row["tokens"], np.int64)
      logits = np.asarray(apply(params, tokens[None, :-1]).logits[0], np.float64)
      log_z = np.log(np.sum(np.exp(logits), axis=-1))
      for t in range(LENGTH):
        if row["mask"][t + 1]:
          total += log_z[t] - logits[t, tokens[t + 1]]
          count += 1
    np.testing.assert_allclose(found[name], total / count, rtol=1e-5)


def test_too_few_rows_are_refused():
  message = "expected 5 held-out rows of forget, got 4; lower data.num_evaluation_rows"
  with pytest.raises(ConfigError, match=message):
    cross_entropy.problems({"forget": rows(jax.random.key(1), 4)}, 5)
