"""The parts of a layer that are computed in more than one way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.distributed import placement
from undo_jax.models.decoder import Decoder


@pytest.mark.parametrize("has_bias", [False, True])
def test_several_matrices_as_one_product_are_the_same_as_alone(has_bias, monkeypatch):
  model = testing.config(qkv_bias=has_bias, mlp_bias=has_bias)
  params = testing.weights(model)
  if has_bias:  # Fresh ones are zero.
    params = jax.tree.map(lambda x: x + 0.1, params)
  tokens = np.arange(4 * 32).reshape(4, 32) % model.vocab_size

  def loss(params):
    return jnp.mean(Decoder(model).apply(params, tokens).logits ** 2)

  results, counts = [], []
  for platform in ("cpu", "gpu"):
    monkeypatch.setattr(placement, "platform", lambda platform=platform: platform)
    jax.clear_caches()  # The platform is not in the keys.
    results.append(jax.jit(jax.value_and_grad(loss))(params))
    counts.append(str(jax.make_jaxpr(loss)(params)).count("dot_general"))
  # Two products fewer of attention, and one of the MLP.
  assert counts[0] == counts[1] - 3
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), *results
  )
