"""Writes what huggingface_test.py and generation_test.py compare with.

COMMAND (needs the extra `bench`; only where a case is added or changed):

  python -m tests.models.huggingface_references
  python -m tests.models.huggingface_references generated  # Only generated.npz.

Each case becomes references/<name>/: config.json and model.safetensors as
transformers saves them, and logits.npz with tokens [B, L], valid [B, L] and logits
[B, L, V] in float32, attention in transformers' eager form. Rows are padded on the
left, on the right and not at all. generated.npz, which those in GENERATED have, holds
prompts padded on the left, tokens [B, L] and valid [B, L], and generated [B, T], what
transformers' greedy generate appends to them with the embedding times EMBEDDING_SCALE.
"""

import pathlib
import shutil
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parent / "references"
SIZES = {
  "vocab_size": 24,
  "hidden_size": 16,
  "num_hidden_layers": 3,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "head_dim": 8,
  "intermediate_size": 24,
  "max_position_embeddings": 64,
}
LLAMA3_ROPE = {
  "rope_type": "llama3",
  "rope_theta": 100.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 16,
}
# (model_type, what differs from SIZES and the family's defaults); 20 tokens a row.
CASES = {
  "gemma2_window": ("gemma2", {"sliding_window": 4, "query_pre_attn_scalar": 5}),
  "gemma2_one_key_head": (
    "gemma2",
    {"num_key_value_heads": 1, "head_dim": 6, "sliding_window": 7},
  ),
  "gemma2_all_key_heads": (
    "gemma2",
    {
      "num_key_value_heads": 4,
      "head_dim": 4,
      "attn_logit_softcapping": 2.0,
      "final_logit_softcapping": 3.0,
      "query_pre_attn_scalar": 4,
    },
  ),
  "gemma2_no_softcaps": (
    "gemma2",
    {
      "attn_logit_softcapping": None,
      "final_logit_softcapping": None,
      "head_dim": 10,
      "sliding_window": 1,
    },
  ),
  "gemma": ("gemma", {}),
  "gemma_one_key_head": ("gemma", {"num_key_value_heads": 1, "head_dim": 6}),
  "gemma3_window": (
    "gemma3_text",
    {"num_hidden_layers": 7, "sliding_window": 5, "query_pre_attn_scalar": 6},
  ),
  "gemma3_scaled_rope": (
    "gemma3_text",
    {
      "num_hidden_layers": 4,
      "sliding_window": 3,
      "layer_types": ["sliding_attention", "full_attention"] * 2,
      "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4},
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
      },
    },
  ),
  "llama": ("llama", {}),
  "llama3_rope_tied": (
    "llama",
    {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True},
  ),
  "llama_biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
  "qwen2": ("qwen2", {"rms_norm_eps": 1e-3}),
  "qwen2_tied": ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
  "qwen3": ("qwen3", {}),
  "qwen3_biases_tied": (
    "qwen3",
    {"attention_bias": True, "tie_word_embeddings": True, "head_dim": 12},
  ),
}
# Those that also generate: what decoding with a cache depends on is windows, of one
# token too, what positions are turned by, norms and biases before the cache.
GENERATED = (
  "gemma2_no_softcaps",
  "gemma2_window",
  "gemma3_scaled_rope",
  "llama",
  "llama3_rope_tied",
  "qwen3_biases_tied",
)
B, L = 4, 20
NUM_GENERATED = 12  # T.
# Of the models that generate: with the embeddings as they are, the tied ones would
# only repeat the last token. A power of two: no weight is rounded.
EMBEDDING_SCALE = 0.125


def build(name: str):
  """Return a case's transformers model, its random weights drawn from its name."""
  import torch
  import transformers

  model_type, changes = CASES[name]
  sizes = SIZES | changes
  if model_type == "qwen2":  # Its heads always have the width / heads.
    sizes = {key: value for key, value in sizes.items() if key != "head_dim"}
  config = transformers.AutoConfig.for_model(model_type, **sizes)
  torch.manual_seed(sum(name.encode()))
  model = transformers.AutoModelForCausalLM.from_config(
    config, attn_implementation="eager", dtype=torch.float32
  )
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      # Fresh ones would hide much: norms that do nothing, scores near zero.
      std = 0.5 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
      std = 1.0 if "embed" in key else std
      is_plain_norm = "norm" in key and not model_type.startswith("gemma")
      parameter.normal_(1.0 if is_plain_norm else 0.0, std)
  return model.eval()


def inputs() -> tuple[np.ndarray, np.ndarray]:
  """Return tokens [B, L] and valid [B, L]; row 0 is full."""
  rng = np.random.default_rng(0)
  valid = np.ones((B, L), bool)
  valid[1, :6] = False
  valid[2, -3:] = False
  valid[3, : L - 2] = False
  tokens = rng.integers(0, SIZES["vocab_size"], (B, L))
  return np.where(valid, tokens, 0), valid


def logits_of(model, tokens: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """Return transformers' logits [B, L, V]."""
  import torch

  with torch.no_grad():
    output = model(
      input_ids=torch.tensor(tokens), attention_mask=torch.tensor(valid).long()
    )
  return output.logits.numpy()


def prompts() -> tuple[np.ndarray, np.ndarray]:
  """Return tokens [B, 8] and valid [B, 8], padded on the left; row 0 is full."""
  rng = np.random.default_rng(1)
  valid = np.arange(8) >= np.asarray([0, 2, 7, 4])[:, None]
  tokens = rng.integers(0, SIZES["vocab_size"], valid.shape)
  return np.where(valid, tokens, 0), valid


def generated_of(model, tokens: np.ndarray, valid: np.ndarray) -> np.ndarray:
  """Return what transformers' greedy generate appends, [B, T], stopping nowhere.

  The model's embedding is scaled in place.
  """
  import torch

  model.get_input_embeddings().weight.data *= EMBEDDING_SCALE
  model.generation_config.eos_token_id = None
  with torch.no_grad():
    output = model.generate(
      input_ids=torch.tensor(tokens),
      attention_mask=torch.tensor(valid).long(),
      max_new_tokens=NUM_GENERATED,
      do_sample=False,
      pad_token_id=0,
      # transformers 5.23 keeps all tokens in the cache of a window of one ([-1 + 1 :]),
      # and attends to them, which its own pass without a cache does not.
      use_cache=getattr(model.config, "sliding_window", None) != 1,
    )
  return output[:, tokens.shape[1] :].numpy()


def write_generated() -> None:
  """Write every generated.npz anew, from the checkpoints that are there."""
  import torch
  import transformers

  tokens, valid = prompts()
  for name in GENERATED:
    model = transformers.AutoModelForCausalLM.from_pretrained(
      ROOT / name, attn_implementation="eager", dtype=torch.float32
    )
    generated = generated_of(model.eval(), tokens, valid)
    np.savez_compressed(
      ROOT / name / "generated.npz", tokens=tokens, valid=valid, generated=generated
    )
    print(name, generated[0])


def main() -> None:
  """Write every case anew."""
  tokens, valid = inputs()
  shutil.rmtree(ROOT, ignore_errors=True)
  for name in CASES:
    model = build(name)
    model.save_pretrained(ROOT / name)
    (ROOT / name / "generation_config.json").unlink(missing_ok=True)
    logits = logits_of(model, tokens, valid)
    np.savez_compressed(
      ROOT / name / "logits.npz", tokens=tokens, valid=valid, logits=logits
    )
    print(name, float(np.abs(logits).max()))
  write_generated()


if __name__ == "__main__":
  write_generated() if sys.argv[1:] == ["generated"] else main()
