"""Sizes and options of the decoder: one frozen dataclass."""

import dataclasses

from undo_jax.utils.records import LARGEST_NUMBER
from undo_jax.utils.types import ConfigError

REMAT_POLICIES = ("none", "dots", "full")
DTYPES = ("float32", "bfloat16")
ATTENTIONS = ("plain", "splash")
ACTIVATIONS = ("gelu_tanh", "silu")
_LARGEST_SIZE = 2**24  # No model is wider, deeper, or knows more tokens.
_UNROLLED_PARAMETERS = 30_000_000  # Of larger models layers are not unrolled unasked.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """A decoder, by default Gemma-2's. Widths in units, counts in entries.

  The fields of the families' differences come last, their defaults Gemma-2's.
  """

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
  sliding_window: int | None = 4096  # Tokens that local layers look back; None: all.
  rope_theta: float = 10_000.0  # Base of the rotary wavelengths.
  norm_epsilon: float = 1e-6  # Added to the mean square.
  init_std: float = 0.02  # Standard deviation of fresh matrices.
  dtype: str = "float32"  # Compute dtype; parameters are float32.
  remat: str = "none"  # What the backward pass recomputes: none, dots, full.
  # Layers unrolled in one turn of the scan over layers; None: see `layers_a_turn`.
  scan_unroll: int | None = 1
  # Positions of a row whose logits a loss holds at once; None: all. See objectives/.
  logits_chunk: int | None = None
  # "splash": by a kernel where there is one (TPUs: rows and heads in multiples of 128;
  # GPUs: cuDNN's, for bfloat16 and no softcap; no padding, no cache), elsewhere plain.
  attention: str = "plain"
  global_every: int = 2  # Every n-th layer is global, without a window; others local.
  activation: str = "gelu_tanh"  # Of the MLP's gate: gelu_tanh or silu.
  norm_offset: bool = True  # Norms multiply by 1 + scale (fresh: 0), else by scale.
  post_norms: bool = True  # Norms after attention and MLP, beside those before.
  qk_norm: bool = False  # Norms over the width of each query and key head.
  scale_embedding: bool = True  # Embeddings times sqrt(D).
  tied: bool = True  # The unembedding is the embedding; else it is head/kernel.
  qkv_bias: bool = False  # Biases of query, key and value,
  out_bias: bool = False  # of the attention's output,
  mlp_bias: bool = False  # of the MLP's three matrices.
  rope_local_theta: float | None = None  # rope_theta of local layers; None: the same.
  rope_factor: float = 1.0  # Stretches the wavelengths of global layers, ...
  rope_low_factor: float = 1.0  # ... only the long ones, as Llama-3 does, if
  rope_high_factor: float = 4.0  # rope_original_length is given; see
  rope_original_length: int | None = None  # rotary.wavelengths. Tokens.

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
      "global_every",
      "logits_chunk",
    ):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ConfigError(f"model.{name} must be at least 1, got {value}")
      if value is not None and value > _LARGEST_SIZE:
        raise ConfigError(f"model.{name} must be at most {_LARGEST_SIZE}, got {value}")
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
      if value is not None and not 0 < value <= LARGEST_NUMBER:
        raise ConfigError(
          f"model.{name} must be in (0, {LARGEST_NUMBER:g}] or None, got {value}"
        )
    if self.dtype not in DTYPES:
      raise ConfigError(f"model.dtype must be one of {DTYPES}, got {self.dtype!r}")
    if self.attention not in ATTENTIONS:
      raise ConfigError(
        f"model.attention must be one of {ATTENTIONS}, got {self.attention!r}"
      )
    if self.activation not in ACTIVATIONS:
      raise ConfigError(
        f"model.activation must be one of {ACTIVATIONS}, got {self.activation!r}"
      )
    if not self.rope_factor > 0 or not self.rope_high_factor > self.rope_low_factor:
      raise ConfigError(
        "model.rope_factor must be positive and rope_high_factor above "
        f"rope_low_factor, got {self.rope_factor}, {self.rope_high_factor} and "
        f"{self.rope_low_factor}"
      )
    if self.remat not in REMAT_POLICIES:
      raise ConfigError(
        f"model.remat must be one of {REMAT_POLICIES}, got {self.remat!r}"
      )


def layers_a_turn(config: ModelConfig) -> int:
  """Return the layers that one turn of the scan over layers computes.

  Unrolled layers are faster where matrices are small. Those of large models are not,
  and a turn of several layers holds the temporaries of all of them.
  """
  if config.scan_unroll is not None:
    return config.scan_unroll
  return min(config.num_layers, 8) if num_params(config) < _UNROLLED_PARAMETERS else 1


def num_params(config: ModelConfig) -> int:
  """Return the number of parameters, a tied embedding counted once.

  V*D + N*(2*D*H*K + 2*D*G*K + 3*D*F + 4*D) + D for Gemma-2.
  """
  c = config
  query, key = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
  layer = 2 * c.width * (query + key) + 3 * c.width * c.mlp_width
  layer += (4 if c.post_norms else 2) * c.width + 2 * c.head_dim * c.qk_norm
  layer += (query + 2 * key) * c.qkv_bias + c.width * c.out_bias
  layer += (2 * c.mlp_width + c.width) * c.mlp_bias
  embeddings = (1 if c.tied else 2) * c.vocab_size * c.width
  return embeddings + c.num_layers * layer + c.width
