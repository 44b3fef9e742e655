"""The sizes that several benchmarks share, by value: a config may change, they do not.

They are those of configs/arithmetic.py when the numbers of README.md were measured.
"""

from undo_jax.models.config import ModelConfig

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
MODELS = {"tiny": TINY, "small": SMALL}
