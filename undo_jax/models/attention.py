"""Attention by kernels that never hold the scores.

The scores of a row take H * L * L * 4 bytes, read and written several times over.
JAX's splash attention (TPUs) goes over them in blocks, with the softcap and the window;
so does cuDNN's (GPUs), which has no softcap.

Reference: Dao et al., FlashAttention, arXiv 2205.14135.
"""

import functools
from typing import Any, Literal

import jax
from jax.sharding import PartitionSpec as P

from undo_jax.distributed import placement

_LANES = 128  # Lengths and head widths must be multiples of it.


def fits(length: int, head_dim: int) -> bool:
  """Whether the kernel takes rows of this length and heads of this width."""
  return length % _LANES == 0 and head_dim % _LANES == 0


def cudnn_fits(head_dim: int, dtype: str, softcap: float | None) -> bool:
  """Whether cuDNN takes these heads on the GPUs that are here."""
  if dtype != "bfloat16" or softcap is not None:
    return False
  # Not those that programs are compiled for alone: cuDNN is asked while compiling.
  device: Any = jax.local_devices()[0]
  if device.platform != "gpu" or "cuda" not in device.client.platform_version:
    return False
  capability = float(device.compute_capability)
  # Hopper's and later ones' kernels take wider heads.
  return head_dim % 8 == 0 and head_dim <= (256 if capability >= 9 else 128)


def cudnn(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  window: int | None,
  implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
  """Compute softmax(query key^T) value over earlier positions, see `splash`.

  The compiler divides it by rows and heads itself.

  Args:
    query: [B, L, H, K], scaled and rotated, float16 or bfloat16.
    key: [B, L, G, K], rotated; G divides H.
    value: [B, L, G, K].
    window: positions looked back, the own one included; None: all.
    implementation: xla computes the same on any platform, in any float dtype.

  Returns:
    [B, L, H, K], in the dtype of `query`.
  """
  return jax.nn.dot_product_attention(
    query,
    key,
    value,
    scale=1.0,
    is_causal=True,
    # Positions before the own one, and after it.
    local_window_size=None if window is None else (window - 1, 0),
    implementation=implementation,
  )


def splash(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  softcap: float | None,
  window: int | None,
  interpret: bool = False,
) -> jax.Array:
  """Compute softmax(softcap(query key^T)) value over earlier positions.

  Inside of `placement.on` every device computes its own rows and heads.

  Args:
    query: [B, L, H, K], scaled and rotated.
    key: [B, L, G, K], rotated; G divides H.
    value: [B, L, G, K].
    softcap: cap of the scores, or None.
    window: positions looked back, the own one included; None: all.
    interpret: run the kernel's definition, on any platform.

  Returns:
    [B, L, H, K], in the dtype of `query`; scores and sums are in float32.
  """
  run = functools.partial(_local, softcap=softcap, window=window, interpret=interpret)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return run(query, key, value)
  axes = placement.ROWS, None, "tensor", None
  specs = [placement.spec(x.shape, *axes) for x in (query, key, value)]
  if specs[1][2] is None:  # Too few key heads: then all heads on every device.
    specs = [P(spec[0], None, None, None) for spec in specs]
  # The compiler cannot divide a kernel; so it is told how.
  return jax.shard_map(
    run, mesh=mesh, in_specs=tuple(specs), out_specs=specs[0], check_vma=False
  )(query, key, value)


def _local(query, key, value, *, softcap, window, interpret):
  # Here, since it brings Pallas.
  from jax.experimental.pallas.ops.tpu import splash_attention

  length, heads = query.shape[1:3]
  shape = (length, length)
  mask = splash_attention.CausalMask(shape)
  if window is not None and window < length:
    mask = splash_attention.LocalMask(shape, (window - 1, 0), 0)
  size = next(size for size in (512, 256, _LANES) if length % size == 0)
  kernel = splash_attention.make_splash_mha_single_device(
    splash_attention.MultiHeadMask([mask] * heads),
    block_sizes=splash_attention.BlockSizes(
      block_q=size,
      block_kv=size,
      block_q_dkv=size,
      block_kv_dkv=size,
      block_q_dq=size,
      block_kv_dq=size,
    ),
    attn_logits_soft_cap=softcap,
    interpret=interpret,
  )
  by_head = (x.swapaxes(1, 2) for x in (query, key, value))
  heads: Any = jax.vmap(kernel)(*by_head)
  return heads.swapaxes(1, 2).astype(query.dtype)
