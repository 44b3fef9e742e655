"""Sizes of the decoder."""

import dataclasses
from typing import Any

from ml_collections import config_dict

from undo_jax.config.blocks import Config
from undo_jax.models import presets


def preset(name: str, **changes: object) -> Config:
  """Return a named size of undo_jax/models/presets.py, computed in bfloat16."""
  model = dataclasses.replace(
    presets.PRESETS[name], dtype="bfloat16", remat="full", **changes
  )
  return config_dict.ConfigDict(dataclasses.asdict(model))


def plain_decoder(**sizes: Any) -> Config:
  """Return a small decoder like GPT's; see models/presets.py."""
  model = presets.plain_decoder(**sizes)
  return config_dict.ConfigDict(dataclasses.asdict(model))


def small_model(
  *,
  vocab_size: int,
  num_layers: int,
  width: int,
  mlp_width: int,
  init_std: float,
  num_heads: int = 4,
  num_kv_heads: int = 2,
  scan_unroll: int | None = None,
) -> Config:
  """Return a small Gemma-2 without its attention's softcap, in float32."""
  head_dim = width // num_heads
  model = config_dict.create(
    vocab_size=vocab_size,  # At least the tokenizer's; a multiple of mesh.tensor.
    num_layers=num_layers,  # N.
    width=width,  # D.
    num_heads=num_heads,  # H.
    num_kv_heads=num_kv_heads,  # G, divides H.
    head_dim=head_dim,  # K, even.
    mlp_width=mlp_width,  # F.
    query_pre_attn_scalar=float(head_dim),  # Attention scores times its power -1/2.
    attention_softcap=config_dict.placeholder(float),  # Off; Gemma-2 has 50.
    logit_softcap=30.0,  # Gemma-2's; None: off.
    sliding_window=4096,  # Tokens that layers 0, 2, ... look back.
    init_std=init_std,  # Of fresh matrices; Gemma's 0.02 learns slowly if narrow.
    dtype="float32",  # Compute dtype, or bfloat16.
    remat="none",  # Recomputed in the backward pass: none, dots, full.
    # Layers unrolled in the scan: fast on a CPU; None: 8 of a small model, 1 of others.
    scan_unroll=config_dict.placeholder(int),
  )
  model.scan_unroll = scan_unroll
  return model
