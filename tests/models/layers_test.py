"""The parts of a layer that are computed in more than one way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.distributed import placement
from undo_jax.models import layers
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


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_products_in_bfloat16_and_their_gradients(is_transposed, is_mapped):
  rng = np.random.default_rng(0)

  def draw(*shape):  # Whose sums of products float32 holds exactly.
    return rng.integers(-9, 10, (2, *shape)).astype(np.float64)

  x, g = draw(3, 4, 24), draw(3, 4, 40)
  kernel = draw(40, 24) if is_transposed else draw(24, 40)

  def product(x, kernel):
    return layers.matmul(x, kernel, is_transposed=is_transposed)

  def pulled_back(x, kernel, g):
    y, pull = jax.vjp(product, x, kernel)
    return y, *pull(g)

  low = [jnp.asarray(each, jnp.bfloat16) for each in (x, kernel, g)]
  if is_mapped:
    got = jax.jit(jax.vmap(pulled_back))(*low)
  else:
    each = [jax.jit(pulled_back)(*(a[i] for a in low)) for i in range(2)]
    got = [jnp.stack(pair) for pair in zip(*each, strict=True)]
  by = np.swapaxes(kernel, 1, 2) if is_transposed else kernel
  d_by = np.einsum("rblk,rbln->rkn", x, g)
  expected = (
    np.einsum("rblk,rkn->rbln", x, by),
    np.einsum("rbln,rkn->rblk", g, by),
    np.swapaxes(d_by, 1, 2) if is_transposed else d_by,
  )
  for ours, exact in zip(got, expected, strict=True):
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("is_transposed", [False, True])
def test_on_a_cpu_products_in_bfloat16_are_of_rows(is_transposed):
  x, kernel = jnp.ones((4, 24), jnp.bfloat16), jnp.ones((24, 24), jnp.bfloat16)

  def loss(x, kernel):
    y = layers.matmul(x, kernel, is_transposed=is_transposed)
    return jnp.sum(y.astype(jnp.float32) ** 2)

  program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).as_text()
  products = [line for line in program.splitlines() if "dot_general" in line]
  assert len(products) == 3
  assert all("contracting_dims = [1] x [0]" in line for line in products)
  # All that is transposed is copied.
  assert program.count("stablehlo.transpose") == 2
  assert program.count("stablehlo.dynamic_slice") == 2
