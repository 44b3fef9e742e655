"""PyTorch's side of the benchmarks: transformers' models as their users train them."""

import pathlib
from typing import Any

from benchmarks import common
from undo_jax.models.config import ModelConfig


def load(directory: pathlib.Path) -> Any:
  """Return transformers' model of a checkpoint, float32, on all cores."""
  import torch
  import transformers

  torch.set_num_threads(common.num_cores())
  return transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32
  )


def gemma2_config(config: ModelConfig, attention: str = "eager") -> Any:
  """Return transformers' config of a model, with one of its kinds of attention."""
  import transformers

  c = config
  return transformers.Gemma2Config(
    vocab_size=c.vocab_size,
    hidden_size=c.width,
    intermediate_size=c.mlp_width,
    num_hidden_layers=c.num_layers,
    num_attention_heads=c.num_heads,
    num_key_value_heads=c.num_kv_heads,
    head_dim=c.head_dim,
    query_pre_attn_scalar=int(c.query_pre_attn_scalar),
    attn_logit_softcapping=c.attention_softcap,
    final_logit_softcapping=c.logit_softcap,
    sliding_window=c.sliding_window,
    rms_norm_eps=c.norm_epsilon,
    max_position_embeddings=8192,
    attn_implementation=attention,
    dtype="float32",
    pad_token_id=None,
  )


def logits(model: Any, tokens: Any) -> Any:
  """Return the logits [B, L, V] of tokens [B, L]."""
  return model(input_ids=tokens, use_cache=False).logits


def cross_entropy(model: Any, rows: Any, reduction: str = "mean") -> Any:
  """Return the cross-entropy of rows [B, L + 1], or that of every token [B * L]."""
  from torch.nn import functional

  return functional.cross_entropy(
    logits(model, rows[:, :-1]).flatten(0, 1),
    rows[:, 1:].flatten(),
    reduction=reduction,
  )


def forward_kl(student: Any, teacher: Any) -> Any:
  """Return KL(teacher || student) of logits [B, L, V], the mean over positions."""
  from torch.nn import functional

  log_p_T = functional.log_softmax(teacher, dim=-1)
  log_p_S = functional.log_softmax(student, dim=-1)
  kl = functional.kl_div(log_p_S, log_p_T, reduction="none", log_target=True)
  return kl.sum(-1).mean()


def update(loss: Any, model: Any, optimizer: Any) -> tuple[float, float]:
  """Train on a loss, clipped to norm 1; return the loss and its gradient's norm."""
  import torch

  loss.backward()
  norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
  optimizer.step()
  optimizer.zero_grad()
  return float(loss.detach()), float(norm)


def generate(model: Any, tokens: Any, valid: Any, num_tokens: int, **how: Any) -> Any:
  """Append tokens greedily to prompts [B, L]; return them as NumPy's [B, T].

  Args:
    model: transformers'; its generation_config must name no token that ends a row.
    tokens: int64, padded on the left.
    valid: int64, 0 on the padding.
    num_tokens: T.
    **how: further arguments of `generate`.
  """
  import torch

  with torch.no_grad():
    output = model.generate(
      input_ids=tokens,
      attention_mask=valid,
      max_new_tokens=num_tokens,
      do_sample=False,
      pad_token_id=0,
      **how,
    )
  return output[:, tokens.shape[1] :].numpy()
