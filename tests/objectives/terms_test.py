"""Weighted sums of means."""

import jax
import jax.numpy as jnp

from undo_jax.objectives.terms import weighted
from undo_jax.utils.types import SumCount


def test_weighted_terms_keep_their_own_counts():
  terms = [
    SumCount(jnp.float32(6), jnp.float32(3)),
    SumCount(jnp.float32(5), jnp.float32(2)),
  ]
  got = weighted((-1.0, terms[0]), (4.0, terms[1]))
  assert got.mean() == -1.0 * 6 / 3 + 4.0 * 5 / 2
  # Parts of a batch add up before the division.
  doubled = jax.tree.map(jnp.add, got, weighted((-1.0, terms[1]), (4.0, terms[1])))
  assert doubled.mean() == -(6 + 5) / (3 + 2) + 4.0 * (5 + 5) / (2 + 2)
