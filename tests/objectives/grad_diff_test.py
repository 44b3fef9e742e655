"""GradDiff: ascent on forget data."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.objectives.toy import assert_trees_close, batch_of, draw_params, run


def test_grad_diff_without_retain_is_ascent_on_the_forget_data():
  params, batch = draw_params(1), batch_of("grad_diff")
  loss, grads, metrics = run("grad_diff", params, batch, retain_weight=0.0)
  ce, ce_grads, _ = run("cross_entropy", params, batch["forget"])
  np.testing.assert_allclose(loss, -ce, rtol=1e-6)
  assert_trees_close(grads, jax.tree.map(jnp.negative, ce_grads), 1e-6)
  np.testing.assert_allclose(metrics["forget_cross_entropy"].mean(), ce, rtol=1e-6)
