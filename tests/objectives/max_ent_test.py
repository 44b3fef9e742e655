"""MaxEnt: the divergence from the uniform distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.objectives.toy import (
  MASK,
  B,
  D,
  L,
  V,
  batch_of,
  draw_logits,
  draw_params,
  log_softmax,
  np_uniform_kl,
  run,
)
from undo_jax.objectives.max_ent import uniform_kl


@pytest.mark.parametrize("scale", [1.0, 3.0, 100.0])
def test_uniform_kl_is_its_formula(scale):
  logits = np.float32(draw_logits(0, scale))
  got = uniform_kl(logits, jnp.asarray(MASK))
  np.testing.assert_allclose(got.mean(), np_uniform_kl(logits, MASK), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, -7.0, 1e4])
def test_uniform_kl_is_zero_at_constant_logits(constant):
  got = uniform_kl(jnp.full((B, L, V), constant), jnp.asarray(MASK))
  assert abs(got.mean()) < 1e-6


def test_the_gradient_of_uniform_kl_is_softmax_minus_uniform():
  logits = np.float32(draw_logits(0))
  got = jax.grad(lambda x: uniform_kl(x, jnp.asarray(MASK)).mean())(logits)
  expected = np.exp(log_softmax(np.float64(logits))) - 1 / V
  expected *= MASK[..., None] / MASK.sum()
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8)


def test_max_ent_at_constant_logits_leaves_the_retain_term():
  params = draw_params(1) | {"out": jnp.zeros((D, V))}
  loss, _, metrics = run("max_ent", params, batch_of("max_ent"))
  np.testing.assert_allclose(loss, 0.5 * np.log(V), rtol=1e-6)
  assert abs(metrics["forget_uniform_kl"].mean()) < 1e-6
