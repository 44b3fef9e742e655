"""SimNPO: NPO where all rows are equally long."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.objectives.toy import (
  FROZEN,
  assert_trees_close,
  batch_of,
  draw_params,
  numpy_apply,
  run,
)
from undo_jax.objectives.npo import preference_loss


def test_it_is_npo_with_a_reference_of_the_margin_and_beta_by_token():
  nll = np.float32([3.0, 7.5, 1.0, 4.0])
  mask, length, margin, beta = np.ones((4, 5)), 5.0, 0.4, 2.5
  mine = preference_loss(nll / length, jnp.full(4, margin), mask, beta)
  npo = preference_loss(nll, jnp.full(4, margin * length), mask, beta / length)
  np.testing.assert_allclose(length * mine.mean(), npo.mean(), rtol=1e-6)


def test_the_gradient_of_a_row_is_weighted_by_its_likelihood_a_token():
  params, batch = draw_params(1), batch_of("simnpo")
  row = jax.tree.map(lambda x: np.asarray(x)[:1], batch["forget"])
  row["mask"] = np.ones_like(row["mask"])
  options = {"retain_weight": 0.0, "beta": 2.0, "margin": 0.1}
  batch = batch | {"forget": row}
  grads = run("simnpo", params, batch, frozen=FROZEN, **options)[1]
  logits = numpy_apply(params, row["inputs"])[0][0]
  p = np.exp(logits - logits.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  nll = -np.log(p[np.arange(len(p)), np.asarray(row["targets"])[0]]).mean()
  q = np.exp(-2.0 * (nll - 0.1))
  lost = run("grad_diff", params, batch, retain_weight=0.0)[1]  # By token already.
  weight = 2 * q / (1 + q)
  expected = jax.tree.map(lambda leaf: weight * leaf, lost)
  assert_trees_close(grads, expected, 1e-5)
