"""Small GGUF files of the form that llama.cpp's converter writes."""

import gguf
import numpy as np

WIDTH, MLP, LAYERS, HEADS, KV_HEADS, VOCAB = 256, 256, 2, 4, 2, 300
KV_WIDTH = WIDTH // HEADS * KV_HEADS
SHAPES = {
  "attn_norm": (WIDTH,),
  "attn_q": (WIDTH, WIDTH),
  "attn_k": (KV_WIDTH, WIDTH),
  "attn_v": (KV_WIDTH, WIDTH),
  "attn_output": (WIDTH, WIDTH),
  "ffn_norm": (WIDTH,),
  "ffn_gate": (MLP, WIDTH),
  "ffn_up": (MLP, WIDTH),
  "ffn_down": (WIDTH, MLP),
}
SIZES = {
  "add_block_count": LAYERS,
  "add_context_length": 128,
  "add_embedding_length": WIDTH,
  "add_feed_forward_length": MLP,
  "add_head_count": HEADS,
  "add_head_count_kv": KV_HEADS,
  "add_layer_norm_rms_eps": 1e-5,
  "add_rope_freq_base": 10000.0,
  "add_rope_dimension_count": WIDTH // HEADS,
}


def weights(seed=0):
  """Return made-up tensors by llama.cpp's names, with a tied head."""
  rng = np.random.default_rng(seed)
  shapes = {
    f"blk.{n}.{part}.weight": shape
    for n in range(LAYERS)
    for part, shape in SHAPES.items()
  }
  shapes |= {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
  return {
    name: (0.1 * rng.standard_normal(shape) + (len(shape) == 1)).astype(np.float32)
    for name, shape in shapes.items()
  }


def stored(values, kind):
  """Return a matrix's bytes in a quantization; those of K are drawn, not made."""
  quantization = gguf.GGMLQuantizationType[kind]
  try:
    return gguf.quantize(values, quantization)
  except NotImplementedError:
    block, size = gguf.GGML_QUANT_SIZES[quantization]
    rows, columns = values.shape
    rng = np.random.default_rng(rows)
    data = rng.integers(0, 256, (rows, columns // block, size), np.uint8)
    # Scales are float16: a small one at each place where a kind has one.
    scales = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (size - 2,)}
    scales |= {"Q2_K": (size - 4, size - 2), "Q3_K": (size - 2,)}
    for start in scales[kind]:
      data[..., start : start + 2] = np.float16([0.001]).view(np.uint8)
    return data.reshape(rows, -1)


def write(path, tensors=None, *, kind="F32", fields=None, architecture="llama"):
  """Write a file; `fields` are added to the metadata, or changed."""
  writer = gguf.GGUFWriter(path, architecture)
  for add, value in SIZES.items():
    getattr(writer, add)(value)
  for name, value in tokenizer_fields().items() if fields is None else fields.items():
    if isinstance(value, bool):
      writer.add_bool(name, value)
    elif isinstance(value, int):
      writer.add_uint32(name, value)
    elif isinstance(value, str):
      writer.add_string(name, value)
    else:
      writer.add_array(name, value)
  for name, values in (weights() if tensors is None else tensors).items():
    if kind == "F32" or values.ndim == 1:
      writer.add_tensor(name, values)
    else:
      quantization = gguf.GGMLQuantizationType[kind]
      writer.add_tensor(name, stored(values, kind), raw_dtype=quantization)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def tokenizer_fields():
  """Return the metadata of a byte-level tokenizer without merges."""
  from tokenizers.pre_tokenizers import ByteLevel

  letters = sorted(ByteLevel.alphabet())
  tokens = ["<|end|>", "<|user|>", *letters, "ab"]
  tokens += [f"unused{i}" for i in range(VOCAB - len(tokens))]
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": [3, 3] + [1] * (VOCAB - 2),
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": "{{ messages }}",
  }
