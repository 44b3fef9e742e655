"""Tests of checkpoints in and out against transformers.

references/ holds checkpoints and logits that transformers wrote
(huggingface_references.py); what needs transformers itself runs where it is
installed.
"""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.models import huggingface_references as references
from undo_jax import testing
from undo_jax.distributed import sharding
from undo_jax.models import checkpoint_files, huggingface
from undo_jax.models.decoder import Decoder, partition_rules
from undo_jax.utils.types import ConfigError

NAMES = sorted(references.CASES)
ROOT = references.ROOT


def tree_equal(got, expected):
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def logits_of(config, params, tokens, valid):
  apply = jax.jit(Decoder(config).apply)
  return np.asarray(apply(params, jnp.asarray(tokens), valid_BxL=valid).logits)


@pytest.mark.optimized
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(name):
  config, params = huggingface.load(ROOT / name)
  with np.load(ROOT / name / "logits.npz") as file:
    tokens, valid, expected = file["tokens"], file["valid"], file["logits"]
  assert not valid.all()
  got = logits_of(config, params, tokens, valid)
  assert np.abs(got - expected)[valid].max() < 1e-4
  # Padding matters: without the mask the padded rows come out otherwise.
  other = logits_of(config, params, tokens, np.ones_like(valid))
  assert np.abs(other - expected)[1][valid[1]].max() > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_changes_no_bit_and_no_field(name, tmp_path):
  config, params = huggingface.load(ROOT / name)
  huggingface.save(tmp_path / "out", config, params)
  again, reread = huggingface.load(tmp_path / "out")
  assert again == config
  tree_equal(reread, params)
  # The files hold the same tensors under the same names.
  theirs = safetensors.numpy.load_file(ROOT / name / "model.safetensors")
  ours = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
  assert sorted(ours) == sorted(theirs)
  for key, tensor in theirs.items():
    np.testing.assert_array_equal(ours[key], tensor)


@pytest.mark.parametrize("name", NAMES)
def test_transformers_reads_what_is_saved(name, tmp_path):
  pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  config, params = huggingface.load(ROOT / name)
  changed = jax.tree.map(lambda x: 0.9 * x, params)
  huggingface.save(tmp_path / "out", config, changed)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / "out", attn_implementation="eager"
  )
  tokens, valid = references.inputs()
  expected = references.logits_of(model.eval(), tokens, valid)
  got = logits_of(config, changed, tokens, valid)
  assert np.abs(got - expected)[valid].max() < 1e-4


def test_bfloat16_stays_bfloat16_and_is_widened_exactly(tmp_path):
  config, params = huggingface.load(ROOT / "gemma2_window")
  huggingface.save(tmp_path / "low", config, params, dtype="bfloat16")
  _, low = huggingface.load(tmp_path / "low")
  tree_equal(low, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
  _, wide = huggingface.load(tmp_path / "low", dtype="float32")
  tree_equal(wide, jax.tree.map(lambda x: x.astype(jnp.float32), low))
  huggingface.save(tmp_path / "again", config, low)
  tree_equal(huggingface.load(tmp_path / "again")[1], low)


@pytest.mark.parametrize("name", ["gemma2_window", "llama_biases"])
def test_each_device_reads_its_part(name):
  mesh = sharding.make_mesh(data=1, fsdp=4, tensor=2)
  _, whole = huggingface.load(ROOT / name)
  config, params = huggingface.load(
    ROOT / name,
    shardings=lambda config, shapes: sharding.tree_shardings(
      shapes, partition_rules(config), mesh
    ),
  )
  kernel = params["layers"]["mlp"]["gate"]["kernel"]
  assert {s.data.shape for s in kernel.addressable_shards} == {(3, 4, 12)}
  tree_equal(params, whole)


def test_large_checkpoints_are_split_and_read_in_chunks(tmp_path, monkeypatch):
  config, params = huggingface.load(ROOT / "gemma2_window")
  monkeypatch.setattr(huggingface, "_SHARD_BYTES", 4000)
  monkeypatch.setattr(checkpoint_files, "_CHUNK_BYTES", 100)
  huggingface.save(tmp_path / "out", config, params)
  files = sorted(p.name for p in (tmp_path / "out").glob("*.safetensors"))
  assert len(files) > 3
  assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
  index = json.loads((tmp_path / "out" / checkpoint_files.INDEX).read_text())
  assert index["metadata"]["total_size"] == sum(
    x.nbytes for x in jax.tree.leaves(params)
  )
  tree_equal(huggingface.load(tmp_path / "out")[1], params)
  with pytest.raises(ConfigError, match="model-00002.* is missing"):
    (tmp_path / "out" / files[1]).unlink()
    huggingface.load(tmp_path / "out")


def test_keys_the_model_does_not_hold_are_kept_from_where_it_came(tmp_path):
  source = huggingface.read_settings(ROOT / "gemma2_window")
  extra = source | {"eos_token_id": [1, 107], "hidden_size": 999, "quirk": "kept"}
  config, params = huggingface.load(ROOT / "gemma2_window")
  huggingface.save(tmp_path / "out", config, params, extra=extra)
  settings = huggingface.read_settings(tmp_path / "out")
  assert settings["eos_token_id"] == [1, 107]
  assert settings["max_position_embeddings"] == 64
  assert settings["quirk"] == "kept"
  assert settings["hidden_size"] == 16  # What the model holds is its own.


# ---- Bad input.


@pytest.fixture
def broken(tmp_path):
  shutil.copytree(ROOT / "gemma2_window", tmp_path / "broken")
  return tmp_path / "broken"


def rewrite(directory, change):
  path = directory / "model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path)


GATE = "model.layers.1.mlp.gate_proj.weight"
CORRUPTIONS = {
  "missing": (lambda t: t.pop(GATE), rf"lacks the tensors {GATE};.*3 layers"),
  "extra": (
    lambda t: t.update({"model.layers.3.mlp.gate_proj.weight": t[GATE]}),
    r"holds beyond the model the tensors model\.layers\.3\.mlp\.gate_proj\.weight",
  ),
  "misshaped": (
    lambda t: t.update({GATE: t[GATE].T}),
    rf"{GATE} should have the shape \(24, 16\) by config.json, got \(16, 24\)",
  ),
  "of integers": (
    lambda t: t.update({GATE: t[GATE].astype(np.int8)}),
    rf"{GATE} is stored as I8; only F32, F16, BF16",
  ),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_wrong_tensor_names_itself(broken, kind):
  change, message = CORRUPTIONS[kind]
  rewrite(broken, change)
  with pytest.raises(ConfigError, match=message):
    huggingface.load(broken)


def header_of(data):
  length = int.from_bytes(data[:8], "little")
  return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header, data):
  text = json.dumps(header).encode()
  return len(text).to_bytes(8, "little") + text + data


def overlapping(data):
  header, rest = header_of(data)
  first, second, *_ = sorted(
    (name for name in header if name != "__metadata__"),
    key=lambda name: header[name]["data_offsets"],
  )
  size = np.diff(header[second]["data_offsets"])[0]
  start = header[first]["data_offsets"][0]
  header[second]["data_offsets"] = [start, int(start + size)]
  return with_header(header, rest)


FILES = {
  "cut off in the data": (lambda d: d[:-10], "tensor .* is truncated: its bytes end"),
  "cut off in the header": (lambda d: d[:100], "header should be .* bytes long"),
  "empty": (lambda d: b"", "cut off or no safetensors file"),
  "wrong header length": (
    lambda d: (1 << 60).to_bytes(8, "little") + d[8:],
    "header should be 1152921504606846976 bytes long",
  ),
  "short header length": (
    lambda d: (10).to_bytes(8, "little") + d[8:],
    "header is no JSON of tensors",
  ),
  "overlapping offsets": (overlapping, "tensor .* overlaps another"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_corrupt_file_is_one_clear_line(broken, kind):
  change, message = FILES[kind]
  path = broken / "model.safetensors"
  path.write_bytes(change(path.read_bytes()))
  with pytest.raises(ConfigError, match=message) as caught:
    huggingface.load(broken)
  assert str(path) in str(caught.value)
  assert "\n" not in str(caught.value)


def test_pickles_are_refused(broken):
  (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
  with pytest.raises(ConfigError, match="a pickle, which can run code"):
    huggingface.load(broken)


def test_a_directory_without_weights_or_config_says_so(broken):
  (broken / "model.safetensors").unlink()
  with pytest.raises(ConfigError, match="has no weights"):
    huggingface.load(broken)
  (broken / "config.json").unlink()
  with pytest.raises(ConfigError, match=r"has no config\.json"):
    huggingface.load(broken)


@pytest.mark.parametrize(
  ("weight_map", "message"),
  [
    ({"a": "../model.safetensors"}, "is no file name in this directory"),
    ({"a": "other.safetensors"}, "is missing"),
    ({"a": "model-1.safetensors"}, "lacks the tensor a"),
  ],
)
def test_an_index_that_lies_is_found_out(broken, weight_map, message):
  (broken / "model.safetensors").rename(broken / "model-1.safetensors")
  index = {"weight_map": weight_map}
  (broken / checkpoint_files.INDEX).write_text(json.dumps(index))
  with pytest.raises(ConfigError, match=message):
    huggingface.load(broken)


def test_models_of_no_family_and_wrong_parameters_are_not_saved(tmp_path):
  mixed = testing.config(norm_offset=False)
  params = testing.params(mixed)
  with pytest.raises(ConfigError, match="of no family.*gemma2 differs in norm_offset"):
    huggingface.save(tmp_path / "out", mixed, params)
  other = testing.params(testing.config(width=32))
  with pytest.raises(
    ConfigError, match=r"parameter embedding should have .*\(16, 16\)"
  ):
    huggingface.save(tmp_path / "out", testing.config(), other)
  assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_or_left_half_written(tmp_path):
  config = testing.config()
  params = testing.params(config)
  huggingface.save(tmp_path / "out", config, params)
  with pytest.raises(ConfigError, match="exists already and is not overwritten"):
    huggingface.save(tmp_path / "out", config, params)
  (tmp_path / "file").write_text("")
  with pytest.raises(ConfigError, match="cannot write"):
    huggingface.save(tmp_path / "file" / "out", config, params)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out"]


# ---- The cache.


def test_decoding_with_a_cache_gives_the_same_logits():
  """Of windows, and of two kinds of positions; generation_test.py has more models."""
  name = "gemma3_scaled_rope"
  config, params = huggingface.load(ROOT / name)
  with np.load(ROOT / name / "logits.npz") as file:
    tokens, valid, expected = file["tokens"], file["valid"], file["logits"]
  model = Decoder(config)
  apply = jax.jit(model.apply)
  cache = model.init_cache(len(tokens), tokens.shape[1] + 3)
  got = []
  # Passes of eight tokens and of one: into an empty cache and after others.
  for start, stop in [(0, 8), (8, 9), (9, 17), *((i, i + 1) for i in range(17, 20))]:
    output = apply(
      params, tokens[:, start:stop], valid_BxL=valid[:, start:stop], cache=cache
    )
    cache = output.cache
    got.append(output.logits)
  assert int(cache.length) == tokens.shape[1]
  got = np.concatenate(got, axis=1)
  assert np.abs(got - expected)[valid].max() < 1e-4


def test_padding_mask_of_a_wrong_shape_is_an_error():
  config = testing.config()
  with pytest.raises(
    ValueError, match=r"valid_BxL must have the tokens' shape \(2, 3\)"
  ):
    Decoder(config).apply(
      {}, jnp.zeros((2, 3), jnp.int32), valid_BxL=jnp.ones((2, 4), bool)
    )


def test_references_are_complete():
  assert sorted(p.name for p in pathlib.Path(ROOT).iterdir()) == NAMES
