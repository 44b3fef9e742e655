"""Named sizes: Gemma-2 2B and the four reduced ones of the UNDO paper."""

from undo_jax.models.config import ModelConfig

# The reduced sizes keep every value of gemma-2-2b but the five given here; so
# query_pre_attn_scalar stays 256 where head_dim is 128.
_GEMMA2 = dict(vocab_size=256_000, num_heads=8, num_kv_heads=4)

PRESETS = {
  "gemma2_0.1b": ModelConfig(
    num_layers=14, width=320, head_dim=128, mlp_width=1280, **_GEMMA2
  ),
  "gemma2_0.3b": ModelConfig(
    num_layers=14, width=768, head_dim=128, mlp_width=3072, **_GEMMA2
  ),
  "gemma2_0.6b": ModelConfig(
    num_layers=18, width=1024, head_dim=256, mlp_width=4096, **_GEMMA2
  ),
  "gemma2_0.9b": ModelConfig(
    num_layers=22, width=1280, head_dim=256, mlp_width=5120, **_GEMMA2
  ),
  "gemma2_2b": ModelConfig(
    num_layers=26, width=2304, head_dim=256, mlp_width=9216, **_GEMMA2
  ),
}
