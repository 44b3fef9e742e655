"""The WMDP setting of the UNDO paper, and made-up facts in its place.

COMMAND, about 10 minutes on 2 CPU cores, ends in runs/facts/report.html:

  python -m experiments.undo --config=configs/wmdp.py:tiny --workdir=runs/facts

Sizes: `tiny` needs no file: it trains 0.5 M parameters on made-up facts (see
undo_jax/data/facts.py), forgets one domain of them, and attacks with facts that say
nothing about the evaluated ones.

Reference: arXiv 2506.06278, section 5 and appendix (WMDP).
"""

from ml_collections import config_dict

from configs import common


def get_config(arg: str | None = None) -> config_dict.ConfigDict:
  """Returns the config of a size: tiny."""
  common.parse_size(arg, ("tiny",))
  return _tiny()


def _tiny() -> config_dict.ConfigDict:
  config = common.run("facts")
  config.data = config_dict.create(
    num_things=60,  # Of each domain, with a fact for each of 4 attributes.
    num_groups=3,  # Of things; the last group's facts are evaluated.
    num_choices=8,  # Multiple-choice questions in training for a fact and wording.
    num_evaluation=1,  # In the evaluation, likewise.
    tokenizer="words:facts",  # Or characters:ascii, bytes, huggingface:PATH, ...
    sequence_length=64,  # L, tokens a row.
    packing="packed",  # Or one_per_row, reference (the paper's).
  )
  both = {"retain": 1.0, "retain_qa": 2.0, "general": 1.0, "general_qa": 2.0}
  # What each stage's rows are drawn from: splits by weight, 0 leaves one out.
  config.mixtures = common.mixtures(
    pretrain={**both, "forget": 1.0, "forget_qa": 2.0},
    data_filtering=both,
    unlearn_forget={"forget": 0.5, "forget_qa": 0.5},
    unlearn_retain={"retain": 0.25, "retain_qa": 0.25, "general_qa": 0.5},
    distill=both,
    **{"attack": ATTACKS["qa"]},
  )
  config.model = config_dict.create(
    vocab_size=648,  # At least the tokenizer's; a multiple of mesh.tensor.
    num_layers=3,  # N.
    width=128,  # D.
    num_heads=4,  # H.
    num_kv_heads=2,  # G, divides H.
    head_dim=32,  # K, even.
    mlp_width=256,  # F.
    query_pre_attn_scalar=32.0,  # Attention scores times its power -1/2.
    attention_softcap=config_dict.placeholder(float),  # Off; Gemma-2 has 50.
    logit_softcap=30.0,  # Gemma-2's; None: off.
    sliding_window=4096,  # Tokens that layers 0, 2, ... look back.
    init_std=0.06,  # Of fresh matrices; Gemma's 0.02 learns slowly at this width.
    dtype="float32",  # Compute dtype, or bfloat16.
    remat="none",  # Recomputed in the backward pass: none, dots, full.
    scan_unroll=8,  # Layers unrolled in the scan; large is fast on a CPU.
  )
  return config


ATTACKS = {"qa": {"attack_qa": 0.5, "retain_qa": 0.5}}
