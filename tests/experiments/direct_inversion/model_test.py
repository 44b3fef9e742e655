"""The denoiser against numpy in float64, and what UNDO's noise makes of it."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.direct_inversion.model import NOISE_RULES, Denoiser
from undo_jax import interpolation

MODEL = Denoiser(pixels=6, num_classes=3, width=8, depth=2)
PARAMS = jax.jit(MODEL.init)(
  jax.random.key(0), jnp.zeros((1, 6)), jnp.zeros(1), jnp.zeros(1, int)
)


def expected(params, x, time, label):
  """The network from its description."""
  w = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])

  def dense(name, x):
    return x @ w[name]["kernel"] + w[name]["bias"]

  def silu(x):
    return x / (1 + np.exp(-x))

  def norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

  rates = 1000.0 ** (-np.arange(32) / 31)
  angles = time[:, None] * rates
  features = np.concatenate([np.sin(angles), np.cos(angles)], -1)
  context = silu(dense("time", features) + w["label"]["embedding"][label])
  hidden = dense("into", x)
  for block in range(2):
    scale, shift = np.split(dense(f"film_{block}", context), 2, -1)
    inner = silu(dense(f"first_{block}", norm(hidden) * (1 + scale) + shift))
    hidden = hidden + dense(f"second_{block}", inner)
  return dense("out", norm(hidden))


def test_the_network_is_what_it_says():
  rng = np.random.default_rng(0)
  x, time, label = rng.standard_normal((4, 6)), np.array([0, 7, 500, 999]), [0, 1, 2, 3]
  apply = jax.jit(MODEL.apply)
  got = apply(PARAMS, x, time, np.array(label))
  np.testing.assert_allclose(got, expected(PARAMS, x, time, label), atol=2e-4)
  same = apply(PARAMS, x, 7, 1)  # One time and label stand for all rows.
  np.testing.assert_allclose(same[1], got[1], atol=1e-5)


def test_whole_noise_holds_nothing_of_the_weights_and_biases_begin_at_zero():
  whole = jax.jit(
    lambda params: interpolation.toward_init(
      params, jax.random.key(1), alpha=1.0, beta=1.0, rules=NOISE_RULES
    )
  )
  moved = jax.tree.map(lambda leaf: np.asarray(leaf) + 1, PARAMS)
  noised = [whole(params)["params"] for params in (PARAMS, moved)]
  jax.tree.map(np.testing.assert_array_equal, *noised)
  assert not np.any(noised[0]["film_0"]["bias"])
  bound = (6 / (8 + 16)) ** 0.5
  assert 0.7 * bound < np.abs(noised[0]["film_0"]["kernel"]).max() <= bound
