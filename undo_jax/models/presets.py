"""Sizes: Gemma-2 2B, the UNDO paper's four reduced ones, SmolLM2, small decoders."""

import dataclasses

from undo_jax.models.config import ModelConfig


def _gemma2(
  *, num_layers: int, width: int, head_dim: int, mlp_width: int
) -> ModelConfig:
  """Return a reduced size, which keeps every value of gemma-2-2b but these.

  So query_pre_attn_scalar stays 256 where head_dim is 128.
  """
  return ModelConfig(
    vocab_size=256_000,
    num_heads=8,
    num_kv_heads=4,
    num_layers=num_layers,
    width=width,
    head_dim=head_dim,
    mlp_width=mlp_width,
  )


def _smollm2() -> ModelConfig:
  """SmolLM2-135M: a Llama. Of its checkpoint's config.json, dtype apart."""
  return ModelConfig(
    vocab_size=49_152,
    num_layers=30,
    width=576,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    mlp_width=1536,
    query_pre_attn_scalar=64.0,
    attention_softcap=None,
    logit_softcap=None,
    sliding_window=None,
    rope_theta=100_000.0,
    norm_epsilon=1e-5,
    activation="silu",
    norm_offset=False,
    post_norms=False,
    scale_embedding=False,
  )


PRESETS = {
  "gemma2_0.1b": _gemma2(num_layers=14, width=320, head_dim=128, mlp_width=1280),
  "gemma2_0.3b": _gemma2(num_layers=14, width=768, head_dim=128, mlp_width=3072),
  "gemma2_0.6b": _gemma2(num_layers=18, width=1024, head_dim=256, mlp_width=4096),
  "gemma2_0.9b": _gemma2(num_layers=22, width=1280, head_dim=256, mlp_width=5120),
  "gemma2_2b": _gemma2(num_layers=26, width=2304, head_dim=256, mlp_width=9216),
  "smollm2_135m": _smollm2(),
}


def plain_decoder(
  *,
  vocab_size: int,
  num_layers: int,
  width: int,
  num_heads: int,
  mlp_width: int,
  **changes: bool | int | float,
) -> ModelConfig:
  """Return a small decoder as GPT's are: one norm before each part, no softcaps."""
  head_dim = width // num_heads
  model = ModelConfig(
    vocab_size=vocab_size,
    num_layers=num_layers,
    width=width,
    num_heads=num_heads,
    num_kv_heads=num_heads,
    head_dim=head_dim,
    mlp_width=mlp_width,
    query_pre_attn_scalar=float(head_dim),
    attention_softcap=None,
    logit_softcap=None,
    sliding_window=None,
    post_norms=False,
  )
  return dataclasses.replace(model, **changes)
