"""Tensors of a checkpoint: what is unused, damaged or elsewhere is found out."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.models import huggingface_references as references
from undo_jax.models import checkpoint_files, huggingface
from undo_jax.models.rotary import wavelengths
from undo_jax.utils.types import ConfigError

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def tied(tmp_path):
  """A checkpoint with a tied head, and what changes its tensors or its config."""
  directory = tmp_path / "tied"
  shutil.copytree(references.ROOT / "llama3_rope_tied", directory)
  return directory


def change(directory, **tensors):
  """Replace tensors; None removes one."""
  path = directory / "model.safetensors"
  changed = safetensors.numpy.load_file(path) | tensors
  kept = {name: value for name, value in changed.items() if value is not None}
  safetensors.numpy.save_file(kept, path)
  return changed


def refused(directory, message):
  with pytest.raises(ConfigError, match=message) as error:
    huggingface.load(directory)
  assert "\n" not in str(error.value)


def test_a_head_beside_a_tied_embedding_is_the_same_or_refused(tied, monkeypatch):
  monkeypatch.setattr(checkpoint_files, "_ROWS", 5)
  embedding = change(tied)[EMBEDDING]
  change(tied, **{HEAD: embedding})
  huggingface.load(tied)
  other = embedding.copy()
  other[-1, -1] += 1e-3
  change(tied, **{HEAD: other})
  refused(tied, "lm_head.weight is not the embedding, .*tie_word_embeddings to false")
  change(tied, **{HEAD: embedding[:-1]})
  refused(tied, "lm_head.weight is not the embedding")


def test_rotary_tables_are_those_of_the_config_or_refused(tied):
  config = huggingface.read_config(tied)
  name = "model.layers.0.self_attn.rotary_emb.inv_freq"
  half = config.head_dim // 2
  plain = config.rope_theta ** (-np.arange(half) / half)
  scaled = 1.0 / np.asarray(wavelengths(config))
  assert np.abs(scaled / plain - 1.0).max() > 0.1
  for table in (plain, scaled, plain.astype(np.float16)):  # Before scaling, and after.
    change(tied, **{name: table})
    huggingface.load(tied)
  change(tied, **{name: plain * 1.1})
  refused(tied, "inv_freq is not the rotary table that config.json states")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_values_that_are_not_finite_are_named(tied, value, dtype):
  name = "model.layers.1.mlp.down_proj.weight"
  wrong = change(tied)[name].astype(dtype)
  wrong[2, 3] = value
  assert not checkpoint_files.is_finite(wrong)
  change(tied, **{name: wrong})
  refused(tied, f"the tensor {name} has values that are not finite")


def test_largest_values_are_finite():
  for dtype in (np.float32, np.float16, jnp.bfloat16):
    assert checkpoint_files.is_finite(np.asarray([jnp.finfo(dtype).max, 0], dtype))


def test_a_bare_model_has_the_same_weights(tied):
  _, expected = huggingface.load(tied)
  whole = change(tied)
  bare = {name: None for name in whole}
  bare |= {name.removeprefix("model."): value for name, value in whole.items()}
  change(tied, **bare)
  _, loaded = huggingface.load(tied)
  np.testing.assert_array_equal(loaded["embedding"], expected["embedding"])
  kernels = [params["layers"]["mlp"]["down"]["kernel"] for params in (loaded, expected)]
  np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize("overlay", ["a.safetensors", "z.safetensors"])
def test_of_two_copies_the_index_names_the_one(tied, overlay):
  whole = change(tied)
  name = "model.norm.weight"
  (tied / "model.safetensors").rename(tied / "model-1.safetensors")
  safetensors.numpy.save_file({name: whole[name] + 1}, tied / overlay)
  index = dict.fromkeys(whole, "model-1.safetensors") | {name: overlay}
  (tied / checkpoint_files.INDEX).write_text(json.dumps({"weight_map": index}))
  _, loaded = huggingface.load(tied)
  np.testing.assert_array_equal(loaded["final_norm"]["scale"], whole[name] + 1)


def test_more_layers_than_tensors_are_refused_at_once(tied):
  settings = json.loads((tied / "config.json").read_text())
  settings["num_hidden_layers"] = 10**7
  (tied / "config.json").write_text(json.dumps(settings))
  refused(tied, "too few for the 10000000 layers")
  settings["num_hidden_layers"] = 10**9
  (tied / "config.json").write_text(json.dumps(settings))
  refused(tied, "num_layers must be at most 16777216, got 1000000000")


@pytest.mark.parametrize("name", [HEAD, "model.rotary_emb.inv_freq"])
@pytest.mark.parametrize("dtype", ["F8_E4M3", "F4", "C64", "I8"])
def test_leftovers_of_other_dtypes_are_named(tied, name, dtype):
  """Of what is not used numpy may know no dtype."""
  path, num_bytes = tied / "model.safetensors", {"F4": 4, "C64": 64}.get(dtype, 8)
  data = path.read_bytes()
  size = int.from_bytes(data[:8], "little")
  header, values = json.loads(data[8 : 8 + size]), data[8 + size :]
  offsets = [len(values), len(values) + num_bytes]
  header[name] = {"dtype": dtype, "shape": [8], "data_offsets": offsets}
  written = json.dumps(header).encode()
  path.write_bytes(
    len(written).to_bytes(8, "little") + written + values + bytes(num_bytes)
  )
  refused(tied, rf"{name} is stored as {dtype}; only F32, .* remove it")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rope_theta": 500.0}, "rope_theta and rope_parameters contradict"),
    ({"rope_theta": "1e4"}, "rope_theta and rope_parameters contradict"),
    ({"rope_scaling": {"type": "linear", "factor": 2}}, "contradict .*'linear'"),
    ({"rope_scaling": {"type": "yarn", "factor": 2}}, "contradict .*'yarn'"),
    ({"rope_scaling": {"rope_theta": 7.0}}, "contradict each other"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 7.0}}}, "by kind of layer"),
  ],
)
def test_what_two_keys_say_of_the_rope_must_agree(tmp_path, changes, message):
  """Versions of transformers differ in which of them they read."""
  directory = shutil.copytree(references.ROOT / "qwen2_tied", tmp_path / "model")
  settings = json.loads((directory / "config.json").read_text())
  rope = {"rope_theta": 10_000.0, "rope_type": "default"}
  assert settings["rope_parameters"] == rope
  same = {"rope_theta": 1e4, "rope_scaling": {"type": "default"}}
  (directory / "config.json").write_text(json.dumps(settings | same))
  huggingface.read_config(directory)
  (directory / "config.json").write_text(json.dumps(settings | changes))
  refused(directory, message)


def test_quantized_weights_are_refused_by_their_key(tied):
  settings = json.loads((tied / "config.json").read_text())
  settings["quantization_config"] = {"quant_method": "fp8"}
  (tied / "config.json").write_text(json.dumps(settings))
  refused(tied, "quantization_config is not supported; save the model dequantized")
