"""Tests of GGUF files as models: against the weights that they were made from."""

import gguf
import numpy as np
import pytest

from tests.models import made_up_gguf as made_up
from undo_jax.models import families, gguf_weights
from undo_jax.utils.types import ConfigError


def pairs(rows, num_heads):
  """As llama.cpp's converter writes queries and keys: halves become pairs."""
  size = rows.shape[0] // num_heads
  out = np.empty_like(rows)
  for head in range(num_heads):
    for i in range(size // 2):
      out[head * size + 2 * i] = rows[head * size + i]
      out[head * size + 2 * i + 1] = rows[head * size + size // 2 + i]
  return out


def test_queries_and_keys_get_their_halves_back_and_nothing_else_changes(tmp_path):
  kept = made_up.weights()
  written = dict(kept)
  for name, values in kept.items():
    for part, heads in (("attn_q", made_up.HEADS), ("attn_k", made_up.KV_HEADS)):
      if part in name:
        written[name] = pairs(values, heads)
  file = gguf_weights.open_file(made_up.write(tmp_path / "model.gguf", written))
  settings = gguf_weights.settings(file, dtype="float32")
  read = {name: make() for name, make in gguf_weights.tensors(file, settings)}
  assert len(read) == len(kept)
  for ours, theirs in (
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"),
    ("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight"),
    ("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"),
    ("blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj.weight"),
    ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
    ("blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"),
    ("output_norm.weight", "model.norm.weight"),
  ):
    np.testing.assert_array_equal(read[theirs], kept[ours])


def test_the_config_is_that_of_the_file(tmp_path):
  file = gguf_weights.open_file(made_up.write(tmp_path / "model.gguf"))
  settings = gguf_weights.settings(file, dtype="bfloat16")
  config = families.from_json(settings)
  assert (config.num_layers, config.num_heads, config.num_kv_heads) == (2, 4, 2)
  assert (config.width, config.mlp_width, config.head_dim) == (256, 256, 64)
  assert config.vocab_size == made_up.VOCAB and config.tied
  assert settings["rms_norm_eps"] == 1e-5 and settings["rope_theta"] == 10000.0
  assert (settings["eos_token_id"], settings["bos_token_id"]) == (0, 1)


def by_hand(data, kind):
  """Dequantize rows by the formats' definitions, in plain Python numbers."""
  rows = []
  for row in data:
    size = {"Q8_0": 34, "Q4_0": 18, "Q4_1": 20}[kind]
    values = []
    for start in range(0, len(row), size):
      block = bytes(row[start : start + size])
      scale = float(np.frombuffer(block[:2], np.float16)[0])
      if kind == "Q8_0":
        values += [scale * x for x in np.frombuffer(block[2:], np.int8).tolist()]
        continue
      least = 0.0
      rest = block[2:]
      if kind == "Q4_1":
        least, rest = float(np.frombuffer(block[2:4], np.float16)[0]), block[4:]
      nibbles = [b & 15 for b in rest] + [b >> 4 for b in rest]
      shift = 8 if kind == "Q4_0" else 0
      values += [scale * (x - shift) + least for x in nibbles]
    rows.append(values)
  return np.array(rows)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_quantized_values_are_those_of_the_definition(tmp_path, kind):
  path = made_up.write(tmp_path / "model.gguf", kind=kind)
  file = gguf_weights.open_file(path)
  settings = gguf_weights.settings(file, dtype="float32")
  read = dict(gguf_weights.tensors(file, settings))
  name = "blk.0.ffn_gate.weight"
  data = made_up.stored(made_up.weights()[name], kind)
  got = read["model.layers.0.mlp.gate_proj.weight"]()
  np.testing.assert_allclose(got, by_hand(data, kind), rtol=1e-6, atol=1e-7)


def test_other_forms_are_named(tmp_path):
  path = tmp_path / "model.gguf"

  def opened(fields=(), tensors=None, **changes):
    known = made_up.tokenizer_fields() | dict(fields)
    made_up.write(path, tensors, fields=known, **changes)
    file = gguf_weights.open_file(path)
    settings = gguf_weights.settings(file, dtype="float32")
    return list(gguf_weights.tensors(file, settings))

  extra = {"rope_freqs.weight": np.ones(32, np.float32)}
  for call, message in (
    (lambda: opened(architecture="qwen2"), "architecture 'qwen2'; only 'llama'"),
    (lambda: opened({"split.count": 3}), "is a part of 3; join them first"),
    (lambda: opened({"llama.expert_count": 8}), "has experts"),
    (lambda: opened({"llama.rope.scaling.type": "yarn"}), "scaled by 'yarn'"),
    (lambda: opened(tensors=made_up.weights() | extra), "rotary factors of its own"),
    (
      lambda: opened(tensors=made_up.weights() | {"blk.0.x.weight": extra_matrix()}),
      "the tensor blk.0.x.weight, which no model",
    ),
    (lambda: opened(kind="TQ1_0"), "is stored as TQ1_0; only F32, F16"),
    (
      lambda: opened(tensors={"output_norm.weight": np.ones(4, np.float32)}),
      "lacks the tensor",
    ),
  ):
    with pytest.raises(ConfigError, match=message) as error:
      call()
    assert "\n" not in str(error.value)


def extra_matrix():
  return np.ones((2, 32), np.float32)


def test_what_is_no_whole_file_is_told(tmp_path):
  path = made_up.write(tmp_path / "model.gguf")
  whole = path.read_bytes()
  for size in (3, 30, 500, len(whole) // 2, len(whole) - 4096):
    path.write_bytes(whole[:size])
    with pytest.raises(ConfigError, match="no GGUF file|cut off or corrupt"):
      gguf_weights.open_file(path)
  path.write_bytes(b"PK\x03\x04" + whole)
  with pytest.raises(ConfigError, match="does not begin with GGUF"):
    gguf_weights.open_file(path)
  with pytest.raises(ConfigError, match="which is no file"):
    gguf_weights.open_file(tmp_path)


def test_every_kind_that_is_listed_is_one_that_gguf_has():
  sizes = {kind.name for kind in gguf.GGML_QUANT_SIZES}
  assert {*gguf_weights.QUANTIZATIONS} <= sizes
