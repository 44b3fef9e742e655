"""The models that several benchmarks share, by value: a config may change, they do not.

Each is written out in full, so that a change of another one does not move it.
"""

from undo_jax.models.config import ModelConfig

# 0.42 M parameters.
TINY = ModelConfig(
  vocab_size=32,
  num_layers=3,
  width=96,
  num_heads=4,
  num_kv_heads=2,
  head_dim=24,
  mlp_width=384,
  query_pre_attn_scalar=24.0,
  attention_softcap=None,
  init_std=0.06,
  scan_unroll=8,
)
# 1.25 M.
SMALL = ModelConfig(
  vocab_size=2048,
  num_layers=4,
  width=128,
  num_heads=4,
  num_kv_heads=2,
  head_dim=32,
  mlp_width=512,
  query_pre_attn_scalar=32.0,
  attention_softcap=None,
  init_std=0.05,
  scan_unroll=4,
)
# 1.50 M.
MIDDLE = ModelConfig(
  vocab_size=128,
  num_layers=6,
  width=128,
  num_heads=4,
  num_kv_heads=2,
  head_dim=32,
  mlp_width=512,
  query_pre_attn_scalar=32.0,
  attention_softcap=None,
  init_std=0.05,
  scan_unroll=8,
)
# 7.91 M.
LARGE = ModelConfig(
  vocab_size=128,
  num_layers=8,
  width=256,
  num_heads=8,
  num_kv_heads=4,
  head_dim=32,
  mlp_width=1024,
  query_pre_attn_scalar=32.0,
  attention_softcap=None,
  init_std=0.05,
  scan_unroll=8,
)
# 29.38 M, of which 4.19 M are the embedding.
LARGEST = ModelConfig(
  vocab_size=8192,
  num_layers=8,
  width=512,
  num_heads=8,
  num_kv_heads=4,
  head_dim=64,
  mlp_width=1536,
  query_pre_attn_scalar=64.0,
  attention_softcap=None,
  init_std=0.03,
  scan_unroll=8,
)
MODELS = {
  "tiny": TINY,
  "small": SMALL,
  "middle": MIDDLE,
  "large": LARGE,
  "largest": LARGEST,
}
