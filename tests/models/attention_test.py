"""Attention by kernels against the sums in float64."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from undo_jax import testing
from undo_jax.distributed import placement
from undo_jax.models import attention
from undo_jax.models.decoder import Decoder

B, L, H, G, K = 1, 128, 2, 1, 128


def draw(seed: int):
  rng = np.random.default_rng(seed)
  shapes = (B, L, H, K), (B, L, G, K), (B, L, G, K)
  q, k, v = (rng.standard_normal(shape) for shape in shapes)
  return 0.3 * q, k, v  # Scores of a few units, which a cap of 3 bends.


def reference(q, k, v, softcap, window):
  """Compute [B, L, H, K] in the dtype of its arguments, a head at a time."""
  distance = jnp.arange(L)[:, None] - jnp.arange(L)[None, :]
  allowed = (distance >= 0) & (distance < (window or L))
  heads = []
  for h in range(H):
    g = h // (H // G)
    scores = jnp.einsum("blk,bmk->blm", q[:, :, h], k[:, :, g])
    if softcap:
      scores = softcap * jnp.tanh(scores / softcap)
    weights = jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf))
    heads.append(jnp.einsum("blm,bmk->blk", weights, v[:, :, g]))
  return jnp.stack(heads, axis=2)


@functools.partial(jax.jit, static_argnums=0)
def with_gradients(fn, *args):
  """Return the output and the gradients of a sum that weighs it differently."""
  factor = np.cos(np.arange(B * L * H * K)).reshape(B, L, H, K)
  output, pull = jax.vjp(fn, *args)
  return output, *pull(jnp.asarray(factor, output.dtype))


@pytest.mark.parametrize(("softcap", "window"), [(3.0, 40), (None, None)])
def test_values_and_gradients_are_those_of_the_sums(softcap, window):
  options = {"softcap": softcap, "window": window}
  with jax.enable_x64(True):
    exact = with_gradients(functools.partial(reference, **options), *draw(0))
    expected = [np.asarray(x) for x in exact]
  assert expected[0].dtype == np.float64
  single = [x.astype(np.float32) for x in draw(0)]
  kernel = functools.partial(attention.splash, **options, interpret=True)
  actual = with_gradients(kernel, *single)
  for x, y in zip(actual, expected, strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=2e-5 * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("window", [1, 40, L, None])
def test_what_cudnn_is_asked_for_are_the_sums(window):
  """Its kernel needs a GPU; XLA computes what the same call means, window and scale."""
  options = {"softcap": None, "window": window}
  with jax.enable_x64(True):
    exact = with_gradients(functools.partial(reference, **options), *draw(0))
    expected = [np.asarray(x) for x in exact]
  single = [x.astype(np.float32) for x in draw(0)]
  call = functools.partial(attention.cudnn, window=window, implementation="xla")
  actual = with_gradients(call, *single)
  for x, y in zip(actual, expected, strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=2e-5 * max(1.0, np.abs(y).max()))


class Hopper:
  """A GPU that is not here."""

  platform, compute_capability = "gpu", "9.0"
  client = types.SimpleNamespace(platform_version="PJRT C API\ncuda 12080")


@pytest.mark.parametrize(
  ("capability", "head_dim", "dtype", "softcap", "fits"),
  [
    ("9.0", 256, "bfloat16", None, True),
    ("8.0", 128, "bfloat16", None, True),
    ("8.0", 256, "bfloat16", None, False),
    ("9.0", 64, "float32", None, False),
    ("9.0", 64, "bfloat16", 50.0, False),
    ("9.0", 20, "bfloat16", None, False),
  ],
)
def test_cudnn_takes_what_it_can(
  monkeypatch, capability, head_dim, dtype, softcap, fits
):
  assert not attention.cudnn_fits(head_dim, dtype, softcap)  # There is no GPU here.
  monkeypatch.setattr(Hopper, "compute_capability", capability)
  monkeypatch.setattr(jax, "local_devices", lambda: [Hopper])
  assert attention.cudnn_fits(head_dim, dtype, softcap) == fits


def test_a_decoder_is_the_same_by_the_call_of_cudnn(monkeypatch):
  sizes = {"sliding_window": 20, "attention_softcap": None, "dtype": "bfloat16"}
  tokens = np.random.default_rng(1).integers(0, 16, (2, 48))
  plain = Decoder(testing.config(**sizes))
  params = jax.tree.map(lambda x: 4 * np.asarray(x), testing.params(plain.config))
  expected = jax.jit(plain.apply)(params, tokens).logits
  calls = []

  def by_xla(*args, window):
    calls.append(window)
    return cudnn(*args, window=window, implementation="xla")

  cudnn = attention.cudnn
  monkeypatch.setattr(attention, "cudnn", by_xla)
  monkeypatch.setattr(placement, "platform", lambda: "gpu")
  decoder = Decoder(testing.config(**sizes, attention="splash"))
  jax.eval_shape(decoder.apply, params, tokens)
  assert not calls  # Compiled for a GPU where there is none.
  fits = lambda *how: how == (8, "bfloat16", None)  # noqa: E731
  monkeypatch.setattr(attention, "cudnn_fits", fits)
  actual = jax.jit(decoder.apply)(params, tokens).logits
  assert set(calls) == {None, 20}
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=0.02 * scale)


def test_a_decoder_is_the_same_by_the_kernel(monkeypatch):
  """Rotary positions, scale, grouped heads, local layers and softcaps included."""
  sizes = {"num_heads": 2, "num_kv_heads": 1, "head_dim": 128, "sliding_window": 40}
  tokens = np.random.default_rng(1).integers(0, 16, (1, L))
  plain = Decoder(testing.config(**sizes))
  params = jax.tree.map(lambda x: 8 * np.asarray(x), testing.params(plain.config))
  expected = jax.jit(plain.apply)(params, tokens).logits
  calls = []

  def interpreted(*args, **options):
    calls.append(options["window"])
    return splash(*args, **options, interpret=True)

  splash = attention.splash
  monkeypatch.setattr(attention, "splash", interpreted)
  decoder = Decoder(testing.config(**sizes, attention="splash"))
  jax.eval_shape(decoder.apply, params, tokens)
  assert not calls  # Not on this platform.
  monkeypatch.setattr(placement, "platform", lambda: "tpu")
  actual = jax.jit(decoder.apply)(params, tokens).logits
  assert set(calls) == {None, 40}
  np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5)
  # Padding and lengths that it does not take go the plain way.
  calls.clear()
  jax.eval_shape(decoder.apply, params, tokens, valid_BxL=np.ones((1, L), bool))
  jax.eval_shape(decoder.apply, params, tokens[:, :100])
  assert not calls


def test_devices_compute_their_own_rows_and_heads():
  mesh = testing.mesh(4, data=1, fsdp=2, tensor=2)
  rng = np.random.default_rng(0)
  shapes = (2, L, 4, K), (2, L, 2, K), (2, L, 2, K)
  args = [(0.3 * rng.standard_normal(s)).astype(np.float32) for s in shapes]
  options = {"softcap": 3.0, "window": None, "interpret": True}
  kernel = functools.partial(attention.splash, **options)
  actual = jax.jit(placement.on(mesh, kernel))(
    *jax.device_put(args, jax.NamedSharding(mesh, jax.P("fsdp", None, "tensor")))
  )
  np.testing.assert_allclose(actual, jax.jit(kernel)(*args), atol=1e-6)
  assert actual.sharding.shard_shape(actual.shape) == (1, L, 2, K)
