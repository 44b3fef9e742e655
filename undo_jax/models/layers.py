"""The decoder's layer and its parts in Linen; see decoder.py for what surrounds it."""

import functools
import itertools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from undo_jax.distributed import placement
from undo_jax.models import attention, rotary
from undo_jax.models.config import ModelConfig
from undo_jax.routing.activations import route

# Mesh axes of the matrices into heads or MLP units and of those out of them.
INTO, OUT_OF = ("fsdp", "tensor"), ("tensor", "fsdp")

ACTIVATIONS = {
  "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
  "silu": jax.nn.silu,
}


class Context(NamedTuple):
  """What all layers share: positions as rotary tables and as masks."""

  rotary: Any  # (cos, sin) [L, K/2] of the global layers ...
  local_rotary: Any  # ... and of those with a window, or None: the same.
  causal: jax.Array  # bool, broadcastable to [B, G, H/G, L, M].
  local: jax.Array | None  # The same within the window, or None: no difference.
  length: jax.Array | None  # Positions in the cache before these.


class Layer(nn.Module):
  """Attention and MLP, each after a norm and added to the residual stream."""

  config: ModelConfig
  collect: tuple[str, ...]
  kernel: str | None  # Of models/attention.py.

  @nn.compact
  def __call__(
    self, x_BxLxD, place, context, routes, cache, input_BxLxD, added, removed_D
  ):
    """Return the stream [B, L, D], and what is collected with the layer's cache."""
    c, (is_local, index) = self.config, place
    if input_BxLxD is not None:
      x_BxLxD = input_BxLxD.astype(x_BxLxD.dtype)
    norm = functools.partial(Norm, c)
    y_BxLxD = norm(name="pre_attention_norm")(x_BxLxD)
    y_BxLxD, cache = Attention(c, self.kernel, name="attention")(
      y_BxLxD, is_local, context, routes, cache
    )
    if c.post_norms:
      y_BxLxD = norm(name="post_attention_norm")(y_BxLxD)
    x_BxLxD = without(x_BxLxD + y_BxLxD, removed_D)
    y_BxLxD = norm(name="pre_mlp_norm")(x_BxLxD)
    y_BxLxD, hidden_BxLxF = Mlp(c, name="mlp")(y_BxLxD, routes)
    mlp_BxLxD = y_BxLxD
    if c.post_norms:
      y_BxLxD = norm(name="post_mlp_norm")(y_BxLxD)
    x_BxLxD += y_BxLxD
    x_BxLxD = _route_at(routes, "residual", x_BxLxD)
    for k, delta in added.items():
      x_BxLxD += jnp.where(index == k - 1, delta, 0).astype(x_BxLxD.dtype)
    x_BxLxD = without(x_BxLxD, removed_D)
    x_BxLxD = placement.constrain(x_BxLxD, placement.ROWS, None, None)
    nodes = {"mlp/hidden": hidden_BxLxF, "mlp/out": mlp_BxLxD, "residual": x_BxLxD}
    return x_BxLxD, ({name: nodes[name] for name in self.collect}, cache)


class Attention(nn.Module):
  """Attention of query heads in groups that share keys and values."""

  config: ModelConfig
  kernel: str | None  # Of models/attention.py.

  @nn.compact
  def __call__(self, x_BxLxD, is_local, context, routes, cache):
    """Return [B, L, D] and the layer's cache, a pair of keys and values or None."""
    c = self.config
    B, L, _ = x_BxLxD.shape
    dense = functools.partial(Dense, c, use_bias=c.qkv_bias)
    q, k, v = products(
      x_BxLxD,
      dense(c.num_heads * c.head_dim, name="query"),
      dense(c.num_kv_heads * c.head_dim, name="key"),
      dense(c.num_kv_heads * c.head_dim, name="value"),
    )
    q = q.reshape(B, L, c.num_heads, c.head_dim)
    k = k.reshape(B, L, c.num_kv_heads, c.head_dim)
    v = v.reshape(B, L, c.num_kv_heads, c.head_dim)
    if c.qk_norm:
      q = Norm(c, name="query_norm")(q)
      k = Norm(c, name="key_norm")(k)
    tables = context.rotary
    if context.local_rotary is not None:
      tables = jax.tree.map(
        lambda x, y: jnp.where(is_local, x, y), context.local_rotary, tables
      )
    q = rotary.rotate(q, tables) * c.query_pre_attn_scalar**-0.5
    k = rotary.rotate(k, tables)
    if self.kernel:
      heads = _by_kernel(self.kernel, c, q, k, v, is_local)
    else:
      heads, cache = self._plain(q, k, v, is_local, context, cache)
    heads = _route_at(routes, "attention/heads", heads)
    out = Dense(c, c.width, use_bias=c.out_bias, axes=OUT_OF, name="out")
    out_BxLxD = out(heads.reshape(B, L, -1))
    return _route_at(routes, "attention/out", out_BxLxD), cache

  def _plain(self, q, k, v, is_local, context, cache):
    c = self.config
    B, L = q.shape[:2]
    q = q.reshape(B, L, c.num_kv_heads, -1, c.head_dim)
    if cache is not None:
      start = (0, context.length, 0, 0)
      k = jax.lax.dynamic_update_slice(cache[0], k, start)
      v = jax.lax.dynamic_update_slice(cache[1], v, start)
      cache = (k, v)

    scores = jnp.einsum("blghk,bmgk->bghlm", q, k).astype(jnp.float32)
    scores = softcap(scores, c.attention_softcap)
    allowed = context.causal
    if context.local is not None:
      allowed = jnp.where(is_local, context.local, allowed)
    scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)
    # Divided after the product: neither it nor its gradient goes over the scores again.
    largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - largest)
    heads = jnp.einsum("bghlm,bmgk->blghk", weights.astype(q.dtype), v)
    total = jnp.einsum("bghlm->blgh", weights)
    heads = (heads / total[..., None]).astype(q.dtype)
    return heads.reshape(B, L, c.num_heads, c.head_dim), cache


def _by_kernel(name: str, config: ModelConfig, q, k, v, is_local):
  """Compute the heads by a kernel, of a layer that is local or not."""
  run: Any = attention.cudnn
  if name == "splash":
    run = functools.partial(attention.splash, softcap=config.attention_softcap)
  window = config.sliding_window
  if window is None or window >= q.shape[1]:
    return run(q, k, v, window=None)
  local, everywhere = (functools.partial(run, window=w) for w in (window, None))
  return jax.lax.cond(is_local, local, everywhere, q, k, v)


class Mlp(nn.Module):
  """A gated MLP."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxLxD, routes):
    """Return [B, L, D] and the hidden units [B, L, F]."""
    c = self.config
    dense = functools.partial(Dense, c, use_bias=c.mlp_bias)
    gate_BxLxF, up_BxLxF = products(
      x_BxLxD, dense(c.mlp_width, name="gate"), dense(c.mlp_width, name="up")
    )
    hidden_BxLxF = ACTIVATIONS[c.activation](gate_BxLxF) * up_BxLxF
    routed_BxLxF = _route_at(routes, "mlp/hidden", hidden_BxLxF)
    out_BxLxD = dense(c.width, axes=OUT_OF, name="down")(routed_BxLxF)
    return _route_at(routes, "mlp/out", out_BxLxD), hidden_BxLxF


class Dense(nn.Module):
  """A matrix, and a bias where one is asked for."""

  config: ModelConfig
  features: int
  use_bias: bool = False
  axes: tuple[str, str] = INTO  # See partition_rules.

  def __call__(self, x):
    """Return x @ kernel + bias over the last axis."""
    return products(x, self)[0]

  @nn.compact
  def weights(self, x):
    """Return the kernel as it is multiplied by, and the bias or None."""
    init = nn.initializers.normal(self.config.init_std)
    kernel = self.param("kernel", init, (x.shape[-1], self.features))
    kernel = placement.gather(kernel.astype(x.dtype), self.axes)
    if not self.use_bias:
      return kernel, None
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
    return kernel, bias.astype(x.dtype)


class Norm(nn.Module):
  """x / rms(x) * (1 + scale), or * scale; computed in float32, fresh: x / rms(x)."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x):
    """Return the same shape and dtype."""
    c = self.config
    fresh = (
      nn.initializers.zeros_init() if c.norm_offset else nn.initializers.ones_init()
    )
    scale = self.param("scale", fresh, (x.shape[-1],)).astype(jnp.float32)
    y = x.astype(jnp.float32)
    y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + c.norm_epsilon)
    if c.norm_offset:
      return (y * (1.0 + scale)).astype(x.dtype)
    return scale.astype(x.dtype) * y.astype(x.dtype)


def products(x, *dense):
  """Return x @ kernel + bias of each of several Dense.

  On a CPU alone they are one product, if its columns are copied for many rows: it
  keeps the cores busier than several, and so does that of its gradient.
  """
  kernels, biases = zip(*(each.weights(x) for each in dense), strict=True)
  if _is_on_one_cpu() and x.size >= x.shape[-1] ** 2:
    ends = itertools.accumulate(each.features for each in dense[:-1])
    ys = jnp.split(matmul(x, jnp.concatenate(kernels, axis=-1)), [*ends], axis=-1)
  else:
    ys = [matmul(x, kernel) for kernel in kernels]
  return [y if b is None else y + b for y, b in zip(ys, biases, strict=True)]


def matmul(x, kernel, *, is_transposed: bool = False):
  """Multiply x @ kernel, or x @ kernel.T, over the last axis as two matrices.

  On two axes instead of three, XLA's CPU backend computes the gradient of the
  kernel without transposed copies: the whole step is 1.5 times as fast.
  """
  rows = x.reshape(-1, x.shape[-1])
  y: jax.Array
  if x.dtype == jnp.bfloat16 and _is_on_one_cpu():
    y = _product_of_rows(rows, kernel, is_transposed)
  else:
    y = rows @ (kernel.T if is_transposed else kernel)
  return y.reshape(*x.shape[:-1], y.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product_of_rows(x_MxK, kernel, is_transposed):
  """Multiply as `matmul` does; all products, those of gradients too, are of rows.

  XLA's CPU backend multiplies in bfloat16, by the processor's instructions for it, only
  matrices that both lie in memory row by row. It converts others to float32: on two
  cores with AMX this takes four times as long.
  """
  return x_MxK @ (_by_rows(kernel.T) if is_transposed else kernel)


def _product_forward(x_MxK, kernel, is_transposed):
  return _product_of_rows(x_MxK, kernel, is_transposed), (x_MxK, kernel)


def _product_backward(is_transposed, saved, gradient_MxN):
  x_MxK, kernel = saved
  if is_transposed:
    return gradient_MxN @ kernel, _left_by_rows(gradient_MxN.T) @ x_MxK
  return gradient_MxN @ _by_rows(kernel.T), _left_by_rows(x_MxK.T) @ gradient_MxN


_product_of_rows.defvjp(_product_forward, _product_backward)


def _by_rows(x_MxN):
  """Copy a transposed matrix, so that it lies in memory row by row.

  As a slice whose start is known only when it runs, which XLA does not simplify away.
  """
  zero = jax.lax.optimization_barrier(jnp.int32(0))
  return jax.lax.dynamic_slice(x_MxN, (zero, zero), x_MxN.shape)


def _left_by_rows(x_MxN):
  """Copy a transposed left factor, which XLA would else make a part of the product."""
  return jax.lax.optimization_barrier(_by_rows(x_MxN))


def _is_on_one_cpu() -> bool:
  return placement.is_alone() and placement.platform() == "cpu"


def without(x_BxLxD, removed_D):
  """Project a direction out, in float32; None: out of nothing."""
  if removed_D is None:
    return x_BxLxD
  u_D, wide_BxLxD = removed_D.astype(jnp.float32), x_BxLxD.astype(jnp.float32)
  along_BxL = jnp.sum(wide_BxLxD * u_D, axis=-1)
  return (wide_BxLxD - along_BxL[..., None] * u_D).astype(x_BxLxD.dtype)


def softcap(x, cap):
  """Bound values smoothly to (-cap, cap); None: not at all."""
  return x if cap is None else cap * jnp.tanh(x / cap)


def _route_at(routes, name, x):
  return route(x, routes[name]) if name in routes else x
