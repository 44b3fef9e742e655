"""GGUF files out: a Hugging Face directory of a Llama as llama.cpp and its kin read it.

The inverse of models/gguf_weights.py: the same names, queries and keys by pairs again.
"""

from collections.abc import Mapping
import pathlib
from typing import Any

import gguf
import numpy as np

from undo_jax.data.tokenizers import to_gguf
from undo_jax.models import gguf_weights, huggingface
from undo_jax.utils.types import ConfigError, JsonObject

_TYPES = {
  "float32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
  "bfloat16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}


def write(directory: pathlib.Path, path: pathlib.Path) -> None:
  """Write the model and the tokenizer of a directory as one GGUF file.

  Matrices keep their dtype, float32 or bfloat16; vectors are float32, as llama.cpp
  wants them.

  Args:
    directory: of a Llama-family model in Hugging Face's files, with its tokenizer.json.
    path: of the file.

  Raises:
    ConfigError: if the model has what the architecture "llama" of GGUF has not, or the
      tokenizer is no byte-level BPE whose way of cutting text has a name there; before
      anything is written.
  """
  settings = huggingface.read_settings(directory)
  fields = _sizes(settings, directory)
  fields |= to_gguf.fields(directory, num_ids=int(settings["vocab_size"]))
  config, params = huggingface.load(directory)
  quantization, file_type = _TYPES[_dtype(settings)]
  writer = gguf.GGUFWriter(path, gguf_weights.ARCHITECTURE)
  writer.add_file_type(file_type)
  for name, value in fields.items():
    _add(writer, name, value)
  for name, make in huggingface.tensors(config, params):
    values = np.asarray(make(), np.float32)
    kind = quantization if values.ndim > 1 else gguf.GGMLQuantizationType.F32
    theirs, values = gguf_weights.stored(name, values, settings)
    writer.add_tensor(theirs, gguf.quantize(values, kind), raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def _sizes(settings: JsonObject, directory: pathlib.Path) -> JsonObject:
  """Return the metadata of the model's form."""
  kind, scaling = settings.get("model_type"), settings.get("rope_scaling") or {}
  scaled = scaling.get("rope_type", scaling.get("type", "default"))
  reasons = {
    f"the family {kind!r}": kind != "llama",
    f"the dtype {_dtype(settings)!r}": _dtype(settings) not in _TYPES,
    f"rotary embeddings scaled by {scaled!r}": scaled not in ("default", "linear"),
  }
  for reason, is_so in reasons.items():
    if is_so:
      raise ConfigError(f"{directory}: {reason} cannot be written as GGUF")
  heads = settings["num_attention_heads"]
  head_dim = settings.get("head_dim") or settings["hidden_size"] // heads
  sizes = {
    "general.name": directory.name,
    "llama.block_count": settings["num_hidden_layers"],
    "llama.context_length": settings["max_position_embeddings"],
    "llama.embedding_length": settings["hidden_size"],
    "llama.feed_forward_length": settings["intermediate_size"],
    "llama.attention.head_count": heads,
    "llama.attention.head_count_kv": settings.get("num_key_value_heads") or heads,
    "llama.attention.key_length": head_dim,
    "llama.attention.value_length": head_dim,
    "llama.attention.layer_norm_rms_epsilon": float(settings["rms_norm_eps"]),
    "llama.rope.dimension_count": head_dim,
    "llama.rope.freq_base": float(settings.get("rope_theta", 10000.0)),
    "llama.vocab_size": settings["vocab_size"],
  }
  if scaled == "linear":
    sizes["llama.rope.scaling.type"] = "linear"
    sizes["llama.rope.scaling.factor"] = float(scaling["factor"])
  return sizes


def _dtype(settings: JsonObject) -> str:
  return str(settings.get("torch_dtype", "float32"))


def _add(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
  """Add a field by the kind of its value."""
  adders: Mapping[type, Any] = {
    str: writer.add_string,
    bool: writer.add_bool,
    int: writer.add_uint32,
    float: writer.add_float32,
    list: writer.add_array,
  }
  adders[type(value)](name, value)
