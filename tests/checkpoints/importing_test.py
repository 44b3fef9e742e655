"""Tests of GGUF files brought in: loaded, trained, and opened with their tokenizer."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.models import made_up_gguf as made_up
from undo_jax import objectives, testing
from undo_jax.checkpoints import importing
from undo_jax.data import tokenizers
from undo_jax.models import gguf_weights, huggingface
from undo_jax.models.decoder import Decoder
from undo_jax.training import state as state_lib
from undo_jax.training.step import make_step
from undo_jax.utils.types import ConfigError


@pytest.mark.parametrize("kind", gguf_weights.QUANTIZATIONS)
def test_a_file_of_each_quantization_loads_with_its_values(tmp_path, kind):
  path = made_up.write(tmp_path / "model.gguf", kind=kind)
  importing.import_gguf(path, tmp_path / "out", dtype="float32")
  _, params = huggingface.load(tmp_path / "out")
  file = gguf_weights.open_file(path)
  settings = gguf_weights.settings(file, dtype="float32")
  expected = dict(gguf_weights.tensors(file, settings))
  down = expected["model.layers.1.mlp.down_proj.weight"]()
  np.testing.assert_array_equal(params["layers"]["mlp"]["down"]["kernel"][1], down.T)
  assert np.isfinite(down).all() and down.std() > 0


def test_three_updates_of_it_lower_the_loss(tmp_path):
  path = made_up.write(tmp_path / "model.gguf", kind="Q4_1")
  importing.import_gguf(path, tmp_path / "out", dtype="float32")
  config, params = huggingface.load(tmp_path / "out")
  optimizer = optax.sgd(0.1)
  objective = objectives.make("cross_entropy", Decoder(config).apply)
  step = jax.jit(make_step(objective, optimizer))
  batch = testing.batch(jax.random.key(0), vocab=config.vocab_size)
  create = jax.jit(functools.partial(state_lib.create, optimizer=optimizer))
  state, losses = create(params), []
  for _ in range(3):
    state, metrics = step(state, (), batch, jax.random.key(0))
    losses.append(float(metrics["loss"]))
  assert losses[2] < losses[1] < losses[0]


def test_tokenizer_template_and_generation_come_along(tmp_path):
  importing.import_gguf(
    made_up.write(tmp_path / "model.gguf"), tmp_path / "out", dtype="bfloat16"
  )
  _, params = huggingface.load(tmp_path / "out")
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
  tokenizer = tokenizers.make(f"huggingface:{tmp_path / 'out'}")
  assert (tokenizer.eos_id, tokenizer.bos_id) == (0, None)
  text = "Is 1+1=2? é\n"
  assert tokenizer.decode(tokenizer.encode(text)) == text
  named = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
  assert named["chat_template"] == "{{ messages }}"
  generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
  assert generation == {"bos_token_id": 1, "eos_token_id": 0}


@pytest.mark.parametrize(
  ("heads", "message"),
  [(0, "num_attention_heads must be"), (6, "not pairs of 6 heads")],
)
def test_heads_that_do_not_fit_are_told(tmp_path, monkeypatch, heads, message):
  monkeypatch.setitem(made_up.SIZES, "add_head_count", heads)
  monkeypatch.setitem(made_up.SIZES, "add_rope_dimension_count", 256 // max(heads, 1))
  path = made_up.write(tmp_path / "model.gguf")
  with pytest.raises(ConfigError, match=message):
    importing.import_gguf(path, tmp_path / "out", dtype="float32")
  assert not (tmp_path / "out").exists()


def test_a_file_that_lacks_a_tensor_leaves_nothing_behind(tmp_path):
  tensors = made_up.weights()
  del tensors["blk.1.ffn_up.weight"]
  path = made_up.write(tmp_path / "model.gguf", tensors)
  with pytest.raises(ConfigError, match=r"model.gguf lacks .*layers.1.mlp.up_proj"):
    importing.import_gguf(path, tmp_path / "out", dtype="float32")
  assert [x.name for x in tmp_path.iterdir()] == ["model.gguf"]
