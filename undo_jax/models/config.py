"""Sizes and options of the decoder: one frozen dataclass."""

import dataclasses

from undo_jax.types import ConfigError

REMAT_POLICIES = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """A Gemma-2 decoder. Widths in units, counts in entries; see the fields."""

  vocab_size: int  # V, token ids are in [0, V).
  num_layers: int  # N.
  width: int  # D, residual stream.
  num_heads: int  # H, query heads.
  num_kv_heads: int  # G, key/value heads; divides num_heads.
  head_dim: int  # K, even; independent of width / num_heads.
  mlp_width: int  # F.
  query_pre_attn_scalar: float = 256.0  # Scores are scaled by its power -1/2.
  attention_softcap: float | None = 50.0  # cap * tanh(x / cap); None: off.
  logit_softcap: float | None = 30.0  # The same for the logits; None: off.
  sliding_window: int = 4096  # Tokens that layers 0, 2, ... look back.
  rope_theta: float = 10_000.0  # Base of the rotary wavelengths.
  norm_epsilon: float = 1e-6  # Added to the mean square.
  init_std: float = 0.02  # Standard deviation of fresh matrices.
  dtype: str = "float32"  # Compute dtype; parameters are float32.
  remat: str = "none"  # What the backward pass recomputes: none, dots, full.
  scan_unroll: int = 1  # Layers unrolled in one turn of the scan over layers.

  def __post_init__(self):
    for name in (
      "vocab_size",
      "num_layers",
      "width",
      "num_heads",
      "num_kv_heads",
      "head_dim",
      "mlp_width",
      "sliding_window",
      "scan_unroll",
    ):
      value = getattr(self, name)
      if value < 1:
        raise ConfigError(f"model.{name} must be at least 1, got {value}")
    if self.num_heads % self.num_kv_heads:
      raise ConfigError(
        f"model.num_kv_heads must divide num_heads={self.num_heads}, "
        f"got {self.num_kv_heads}"
      )
    if self.head_dim % 2:
      raise ConfigError(
        f"model.head_dim must be even for rotary embeddings, got {self.head_dim}"
      )
    for name in ("attention_softcap", "logit_softcap"):
      value = getattr(self, name)
      if value is not None and value <= 0:
        raise ConfigError(f"model.{name} must be positive or None, got {value}")
    if self.dtype not in DTYPES:
      raise ConfigError(f"model.dtype must be one of {DTYPES}, got {self.dtype!r}")
    if self.remat not in REMAT_POLICIES:
      raise ConfigError(
        f"model.remat must be one of {REMAT_POLICIES}, got {self.remat!r}"
      )


def num_params(config: ModelConfig) -> int:
  """Returns the number of parameters, the tied embedding counted once.

  V*D + N*(2*D*H*K + 2*D*G*K + 3*D*F + 4*D) + D
  """
  c = config
  attention = 2 * c.width * c.head_dim * (c.num_heads + c.num_kv_heads)
  layer = attention + 3 * c.width * c.mlp_width + 4 * c.width
  return c.vocab_size * c.width + c.num_layers * layer + c.width
