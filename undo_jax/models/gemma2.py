"""Gemma-2's decoder in Linen: pure `init` and `apply` over a plain dict.

The layers are stacked on a leading axis N and scanned. Matrices are stored as
[N, in, out], so that the last two axes are always (fan in, fan out).
"""

from collections.abc import Mapping
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from undo_jax.models.config import ModelConfig
from undo_jax.routing.activations import check_broadcastable, route
from undo_jax.types import Params

# Places inside each layer where a routing mask may sit.
NODES = ("attention/heads", "attention/out", "mlp/hidden", "mlp/out", "residual")

# Mesh axes of every parameter: (path regex, axes); the leading one is the layers'.
PARTITION_RULES = (
  ("embedding", ("tensor", "fsdp")),
  (r"layers/attention/(query|key|value)/kernel", (None, "fsdp", "tensor")),
  (r"layers/attention/out/kernel", (None, "tensor", "fsdp")),
  (r"layers/mlp/(gate|up)/kernel", (None, "fsdp", "tensor")),
  (r"layers/mlp/down/kernel", (None, "tensor", "fsdp")),
  (r"(.*/)?scale", ()),
)


class Output(NamedTuple):
  """logits_BxLxV in float32, and the captured hidden states by index."""

  logits: jax.Array
  captured: dict[int, jax.Array]


class Gemma2:
  """The decoder as a pair of pure functions over a nested dict of arrays.

  Reference: Gemma Team, Gemma 2, arXiv 2408.00118.
  """

  def __init__(self, config: ModelConfig):
    self.config = config
    self._decoder = _Decoder(config)

  def init(self, key: jax.Array) -> Params:
    """Draws fresh float32 parameters: matrices ~ N(0, init_std^2), norms zero."""
    tokens_BxL = jnp.zeros((1, 1), jnp.int32)
    return self._decoder.init(key, tokens_BxL, {}, ())["params"]

  def apply(
    self,
    params: Params,
    tokens_BxL: jax.Array,
    *,
    routes: Mapping[str, jax.Array] | None = None,
    capture: tuple[int, ...] = (),
  ) -> Output:
    """Computes the logits of the next token at every position.

    Args:
      params: the tree that `init` returns.
      tokens_BxL: int32 token ids in [0, V).
      routes: gradient-routing masks by node name (one of NODES), each
        broadcastable to [N, *activation], where the activation is
        [B, L, H, K] for attention/heads, [B, L, F] for mlp/hidden and
        [B, L, D] for the others. The leading axis is the layer's.
      capture: indices k in [0, N] of hidden states to return; 0 is the scaled
        embedding and k the output of the k-th layer counted from one (after
        the residual, before the final norm).

    Returns:
      Output(logits [B, L, V] float32, captured {k: [B, L, D]}).

    Raises:
      ValueError: on an unknown node, a mask that does not broadcast, or a
        capture index outside [0, N].
    """
    routes = dict(routes or {})
    self._check(tokens_BxL, routes, capture)
    output: Any = self._decoder.apply(
      {"params": params}, tokens_BxL, routes, tuple(capture)
    )
    return Output(*output)

  def _check(self, tokens_BxL, routes, capture):
    c = self.config
    B, L = tokens_BxL.shape
    shapes: dict[str, tuple[int, ...]] = {
      name: (c.num_layers, B, L, c.width) for name in NODES
    }
    shapes["attention/heads"] = (c.num_layers, B, L, c.num_heads, c.head_dim)
    shapes["mlp/hidden"] = (c.num_layers, B, L, c.mlp_width)
    for name, mask in routes.items():
      if name not in shapes:
        raise ValueError(f"unknown route {name!r}; the nodes are {', '.join(NODES)}")
      if jnp.ndim(mask) == 0 or mask.shape[0] != c.num_layers:
        raise ValueError(
          f"route {name!r} must have the {c.num_layers} layers as leading axis, "
          f"got shape {jnp.shape(mask)}"
        )
      check_broadcastable(mask, shapes[name])
    for index in capture:
      if not 0 <= index <= c.num_layers:
        raise ValueError(f"capture indices lie in [0, {c.num_layers}], got {index}")


class _Decoder(nn.Module):
  config: ModelConfig

  @nn.compact
  def __call__(self, tokens_BxL, routes, capture):
    c = self.config
    L = tokens_BxL.shape[1]
    embedding_VxD = self.param(
      "embedding", nn.initializers.normal(c.init_std), (c.vocab_size, c.width)
    ).astype(c.dtype)
    scale = jnp.sqrt(jnp.asarray(c.width, c.dtype))
    x_BxLxD = jnp.take(embedding_VxD, tokens_BxL, axis=0) * scale

    scan: Any = nn.scan  # Its annotation knows no broadcast arguments.
    layers = scan(
      _remat(_Layer, c.remat),
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(0, nn.broadcast, nn.broadcast, 0),
      length=c.num_layers,
      unroll=c.scan_unroll,
    )(c, collect=any(k > 0 for k in capture), name="layers")
    is_local_N = jnp.arange(c.num_layers) % 2 == 0
    embedded_BxLxD = x_BxLxD
    x_BxLxD, hidden_NxBxLxD = layers(
      x_BxLxD, is_local_N, rotary_tables(L, c), _causal_masks(L, c), routes
    )
    captured = {k: hidden_NxBxLxD[k - 1] if k else embedded_BxLxD for k in capture}
    x_BxLxD = _Norm(c, name="final_norm")(x_BxLxD)
    logits_BxLxV = _matmul(x_BxLxD, embedding_VxD.T).astype(jnp.float32)
    return _softcap(logits_BxLxV, c.logit_softcap), captured


def _remat(layer, policy: str):
  if policy == "none":
    return layer
  saveable = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": None,
  }[policy]
  return nn.remat(layer, policy=saveable, prevent_cse=False)


class _Layer(nn.Module):
  config: ModelConfig
  collect: bool

  @nn.compact
  def __call__(self, x_BxLxD, is_local, rotary, masks, routes):
    norm = functools.partial(_Norm, self.config)
    y_BxLxD = norm(name="pre_attention_norm")(x_BxLxD)
    y_BxLxD = _Attention(self.config, name="attention")(
      y_BxLxD, is_local, rotary, masks, routes
    )
    x_BxLxD += norm(name="post_attention_norm")(y_BxLxD)
    y_BxLxD = norm(name="pre_mlp_norm")(x_BxLxD)
    y_BxLxD = _Mlp(self.config, name="mlp")(y_BxLxD, routes)
    x_BxLxD += norm(name="post_mlp_norm")(y_BxLxD)
    x_BxLxD = _route_at(routes, "residual", x_BxLxD)
    return x_BxLxD, (x_BxLxD if self.collect else None)


class _Attention(nn.Module):
  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxLxD, is_local, rotary, masks, routes):
    c = self.config
    B, L, _ = x_BxLxD.shape
    dense = functools.partial(_Dense, c)
    group = c.num_heads // c.num_kv_heads
    q = dense(c.num_heads * c.head_dim, name="query")(x_BxLxD)
    k = dense(c.num_kv_heads * c.head_dim, name="key")(x_BxLxD)
    v = dense(c.num_kv_heads * c.head_dim, name="value")(x_BxLxD)
    q = _rotate(q.reshape(B, L, c.num_heads, c.head_dim), rotary)
    q = q * c.query_pre_attn_scalar**-0.5
    q = q.reshape(B, L, c.num_kv_heads, group, c.head_dim)
    k = _rotate(k.reshape(B, L, c.num_kv_heads, c.head_dim), rotary)
    v = v.reshape(B, L, c.num_kv_heads, c.head_dim)

    scores = jnp.einsum("blghk,bmgk->bghlm", q, k).astype(jnp.float32)
    scores = _softcap(scores, c.attention_softcap)
    causal_LxL, local_LxL = masks
    allowed_LxL = (
      causal_LxL if local_LxL is None else jnp.where(is_local, local_LxL, causal_LxL)
    )
    scores = jnp.where(allowed_LxL, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores).astype(x_BxLxD.dtype)
    heads = jnp.einsum("bghlm,bmgk->blghk", weights, v)
    heads = heads.reshape(B, L, c.num_heads, c.head_dim)
    heads = _route_at(routes, "attention/heads", heads)
    out_BxLxD = dense(c.width, name="out")(heads.reshape(B, L, -1))
    return _route_at(routes, "attention/out", out_BxLxD)


class _Mlp(nn.Module):
  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxLxD, routes):
    c = self.config
    dense = functools.partial(_Dense, c)
    gate_BxLxF = dense(c.mlp_width, name="gate")(x_BxLxD)
    up_BxLxF = dense(c.mlp_width, name="up")(x_BxLxD)
    hidden_BxLxF = jax.nn.gelu(gate_BxLxF, approximate=True) * up_BxLxF
    hidden_BxLxF = _route_at(routes, "mlp/hidden", hidden_BxLxF)
    out_BxLxD = dense(c.width, name="down")(hidden_BxLxF)
    return _route_at(routes, "mlp/out", out_BxLxD)


class _Dense(nn.Module):
  config: ModelConfig
  features: int

  @nn.compact
  def __call__(self, x):
    init = nn.initializers.normal(self.config.init_std)
    kernel = self.param("kernel", init, (x.shape[-1], self.features))
    return _matmul(x, kernel.astype(x.dtype))


class _Norm(nn.Module):
  """x / rms(x) * (1 + scale), computed in float32; a fresh scale is zero."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x):
    scale = self.param("scale", nn.initializers.zeros_init(), (x.shape[-1],))
    y = x.astype(jnp.float32)
    y *= jax.lax.rsqrt(
      jnp.mean(y * y, axis=-1, keepdims=True) + self.config.norm_epsilon
    )
    return (y * (1.0 + scale)).astype(x.dtype)


def rotary_tables(length: int, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
  """Returns (cos, sin) tables of the rotary embedding, each [L, K/2] float32."""
  half = config.head_dim // 2
  wavelength = config.rope_theta ** (jnp.arange(half, dtype=jnp.float32) / half)
  angle = jnp.arange(length, dtype=jnp.float32)[:, None] / wavelength
  return jnp.cos(angle), jnp.sin(angle)


def _rotate(x_BxLxHxK, rotary):
  cos, sin = (table[:, None, :].astype(x_BxLxHxK.dtype) for table in rotary)
  first, second = jnp.split(x_BxLxHxK, 2, axis=-1)
  return jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )


def _matmul(x, kernel):
  """Multiplies x @ kernel over the last axis, as one product of two matrices.

  On two axes instead of three, XLA's CPU backend computes the gradient of the
  kernel without transposed copies: the whole step is 1.5 times as fast.
  """
  y = x.reshape(-1, x.shape[-1]) @ kernel
  return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _causal_masks(length: int, config: ModelConfig):
  """Returns boolean [L, L] masks (causal, causal in the window or None)."""
  query = jnp.arange(length)[:, None]
  key = jnp.arange(length)[None, :]
  causal = key <= query
  if length <= config.sliding_window:
    return causal, None  # The window reaches everything: one mask serves both.
  return causal, causal & (key > query - config.sliding_window)


def _softcap(x, cap):
  return x if cap is None else cap * jnp.tanh(x / cap)


def _route_at(routes, name, x):
  return route(x, routes[name]) if name in routes else x
