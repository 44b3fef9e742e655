"""GGUF files in: the weights of a Llama-family model as a Hugging Face checkpoint.

The package `gguf` reads the file and dequantizes; nothing else of llama.cpp is needed.
Its converter interleaves the rows of queries and keys, since llama.cpp rotates
neighbouring pairs where transformers rotates halves; here they are put back.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import pathlib
import re
from typing import Any

import gguf
import numpy as np

from undo_jax.models.checkpoint_files import is_finite
from undo_jax.utils.types import ConfigError, JsonObject

# Of the tensors' values; gguf dequantizes them all to float32.
QUANTIZATIONS = (
  *("F32", "F16", "BF16"),
  *("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
  *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
)
ARCHITECTURE = "llama"
_WHOLE = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
}
_OF_LAYER = {
  "attn_norm": "input_layernorm",
  "attn_q": "self_attn.q_proj",
  "attn_k": "self_attn.k_proj",
  "attn_v": "self_attn.v_proj",
  "attn_output": "self_attn.o_proj",
  "ffn_norm": "post_attention_layernorm",
  "ffn_gate": "mlp.gate_proj",
  "ffn_up": "mlp.up_proj",
  "ffn_down": "mlp.down_proj",
}


@dataclasses.dataclass(frozen=True)
class GgufFile:
  """An opened file: its metadata and its tensors, which stay on disk."""

  path: pathlib.Path
  fields: JsonObject  # Its metadata.
  tensors: Mapping[str, gguf.ReaderTensor]

  def field(self, name: str, kind: type, default: Any = None) -> Any:
    """Return a field of the metadata; raise ConfigError if it is of another kind."""
    value = self.fields.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
      raise ConfigError(
        f"{self.path}: expected {name} to be of the kind {kind.__name__}, got {value!r}"
      )
    return value


def open_file(path: pathlib.Path) -> GgufFile:
  """Open a GGUF file.

  Raises:
    ConfigError: if it is none, is cut off, is a part of several, or holds another
      architecture or a quantization that cannot be read; named.
  """
  if not path.is_file():
    raise ConfigError(f"expected a GGUF file, got {path}, which is no file")
  with path.open("rb") as file:
    if file.read(4) != b"GGUF":
      raise ConfigError(f"{path} is no GGUF file: it does not begin with GGUF")
  try:
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
  except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
    raise ConfigError(
      f"{path} is cut off or corrupt, or of a newer format: {error}"
    ) from None
  opened = GgufFile(path, fields, {tensor.name: tensor for tensor in reader.tensors})
  if fields.get("split.count", 1) not in (0, 1):
    raise ConfigError(
      f"{path} is a part of {fields['split.count']}; join them first: "
      "llama-gguf-split --merge"
    )
  architecture = opened.field("general.architecture", str)
  if architecture != ARCHITECTURE:
    raise ConfigError(
      f"{path} holds the architecture {architecture!r}; only {ARCHITECTURE!r} can be "
      "read (Llama, SmolLM, Mistral, TinyLlama)"
    )
  for name, tensor in opened.tensors.items():
    if tensor.tensor_type.name not in QUANTIZATIONS:
      raise ConfigError(
        f"{path}: the tensor {name} is stored as {tensor.tensor_type.name}; only "
        f"{', '.join(QUANTIZATIONS)} can be read"
      )
  return opened


def settings(file: GgufFile, *, dtype: str) -> JsonObject:
  """Return the config.json of the model in a file.

  Args:
    file: see `open_file`.
    dtype: of the weights that are written beside it.

  Raises:
    ConfigError: if a size is missing, or an option is on that the decoder does not
      have; named.
  """
  width = file.field("llama.embedding_length", int)
  heads = file.field("llama.attention.head_count", int)
  head_dim = file.field("llama.attention.key_length", int, width // max(heads, 1))
  _refuse_others(file, head_dim)
  embedding = _tensor(file, "token_embd.weight")
  fields: JsonObject = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": width,
    "intermediate_size": file.field("llama.feed_forward_length", int),
    "num_hidden_layers": file.field("llama.block_count", int),
    "num_attention_heads": heads,
    "num_key_value_heads": file.field("llama.attention.head_count_kv", int, heads),
    "head_dim": head_dim,
    "vocab_size": int(embedding.shape[1]),
    "max_position_embeddings": file.field("llama.context_length", int),
    # As the decimal number that was rounded to float32.
    "rms_norm_eps": _decimal(
      file.field("llama.attention.layer_norm_rms_epsilon", float)
    ),
    "rope_theta": _decimal(file.field("llama.rope.freq_base", float, 10000.0)),
    "attention_bias": "blk.0.attn_q.bias" in file.tensors,
    "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
    "tie_word_embeddings": "output.weight" not in file.tensors,
    "torch_dtype": dtype,
  }
  scaling = file.fields.get("llama.rope.scaling.type", "none")
  if scaling == "linear":
    factor = file.field("llama.rope.scaling.factor", float)
    fields["rope_scaling"] = {"rope_type": "linear", "factor": factor}
  for name in ("bos", "eos"):
    number = file.fields.get(f"tokenizer.ggml.{name}_token_id")
    if number is not None:
      fields[f"{name}_token_id"] = number
  return fields


def tensors(
  file: GgufFile, config: JsonObject
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
  """Yield the name that transformers gives a tensor, and what dequantizes it.

  Args:
    file: see `open_file`.
    config: see `settings`.

  Raises:
    ConfigError: at a tensor that no Llama model has.
  """
  heads = _heads(config)
  for name, tensor in file.tensors.items():
    if name in _WHOLE:
      yield _WHOLE[name], lambda tensor=tensor: _values(tensor)
      continue
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match is None or match[2] not in _OF_LAYER:
      raise ConfigError(
        f"{file.path} holds the tensor {name}, which no model of this form has"
      )
    layer, part, kind = match.groups()
    theirs = f"model.layers.{layer}.{_OF_LAYER[part]}.{kind}"
    if part in heads:
      if int(tensor.shape[-1]) % (2 * heads[part]):
        raise ConfigError(
          f"{file.path}: {name} has {tensor.shape[-1]} rows, which are not pairs of "
          f"{heads[part]} heads"
        )
      yield theirs, lambda t=tensor, n=heads[part]: _halves(_values(t), n)
    else:
      yield theirs, lambda tensor=tensor: _values(tensor)


def stored(name: str, values: np.ndarray, config: JsonObject) -> tuple[str, np.ndarray]:
  """Return a tensor of transformers as a file has it: its name and its values.

  Args:
    name: that transformers gives it.
    values: [out, in] or [size].
    config: the config.json of the model.

  Raises:
    KeyError: if no Llama model has such a tensor.
  """
  whole = {theirs: ours for ours, theirs in _WHOLE.items()}
  if name in whole:
    return whole[name], values
  of_layer = {theirs: ours for ours, theirs in _OF_LAYER.items()}
  layer, rest = name.removeprefix("model.layers.").split(".", 1)
  part, kind = rest.rsplit(".", 1)
  ours = of_layer[part]
  heads = _heads(config).get(ours)
  if heads is not None:
    values = _pairs(values, heads)
  return f"blk.{layer}.{ours}.{kind}", values


def _heads(config: JsonObject) -> dict[str, int]:
  """Return how many heads share the rows of the tensors whose rows are rotated."""
  return {
    "attn_q": config["num_attention_heads"],
    "attn_k": config["num_key_value_heads"],
  }


def _values(tensor: gguf.ReaderTensor) -> np.ndarray:
  """Return a tensor's values, float32 [out, in] or [size]."""
  values = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)
  if not is_finite(values):
    raise ConfigError(
      f"the tensor {tensor.name} has values that are not finite; the model diverged "
      "before it was saved, or the file is damaged"
    )
  return values


def _halves(rows: np.ndarray, num_heads: int) -> np.ndarray:
  """Orders the rows of each head by halves, which llama.cpp has in pairs.

  Rows 0, 1, 2, 3, ... become 0, 2, 4, ..., 1, 3, 5, ... within each head.
  """
  by_pair = rows.reshape(num_heads, -1, 2, *rows.shape[1:])
  return by_pair.swapaxes(1, 2).reshape(rows.shape)


def _pairs(rows: np.ndarray, num_heads: int) -> np.ndarray:
  """Undo `_halves`."""
  by_half = rows.reshape(num_heads, 2, -1, *rows.shape[1:])
  return by_half.swapaxes(1, 2).reshape(rows.shape)


def _decimal(value: float) -> float:
  """Return the shortest decimal number that is this float32."""
  return float(str(np.float32(value)))


def _tensor(file: GgufFile, name: str) -> gguf.ReaderTensor:
  if name not in file.tensors:
    raise ConfigError(f"{file.path} lacks the tensor {name}")
  return file.tensors[name]


def _refuse_others(file: GgufFile, head_dim: int) -> None:
  """Raise ConfigError if the model is of a form that the decoder does not have."""
  scaling = file.fields.get("llama.rope.scaling.type", "none")
  rotated = file.fields.get("llama.rope.dimension_count", head_dim)
  reasons = {
    "experts (llama.expert_count)": file.fields.get("llama.expert_count", 0) > 0,
    f"rotary embeddings scaled by {scaling!r}": scaling not in ("none", "linear"),
    "rotary factors of its own (rope_freqs.weight)": "rope_freqs.weight"
    in file.tensors,
    f"rotary embeddings of {rotated} of {head_dim} dimensions": rotated != head_dim,
    "a window (llama.attention.sliding_window)": bool(
      file.fields.get("llama.attention.sliding_window")
    ),
  }
  unsupported = [reason for reason, is_on in reasons.items() if is_on]
  if unsupported:
    raise ConfigError(
      f"{file.path}: the model has {unsupported[0]}, which cannot be read"
    )
