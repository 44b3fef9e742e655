"""Model families: their config.json in both directions, their rules, their noise."""

import functools

import jax
import numpy as np
import pytest

from tests.models import huggingface_references as references
from undo_jax import interpolation, testing
from undo_jax.models import families, huggingface
from undo_jax.models.config import num_params
from undo_jax.models.decoder import Decoder, noise_rules, partition_rules, shapes
from undo_jax.utils import trees
from undo_jax.utils.types import ConfigError

# Of each family one, and what differs within: biases, the scaling of positions.
NAMES = (
  "gemma",
  "gemma2_window",
  "gemma3_scaled_rope",
  "llama3_rope_tied",
  "llama_biases",
  "qwen2",
  "qwen3",
)
ROOT = references.ROOT
YARN = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}


def test_configs_of_transformers_4_are_read_alike():
  """Its rope_theta, rope_scaling and patterns as numbers, per its releases."""
  common = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 24,
  }
  gemma = families.from_json(
    common
    | {
      "model_type": "gemma3_text",
      "sliding_window": 5,
      "sliding_window_pattern": 6,
      "query_pre_attn_scalar": 6,
      "rope_theta": 1_000_000,
      "rope_local_base_freq": 10_000,
      "rope_scaling": None,
    }
  )
  assert gemma == huggingface.read_config(ROOT / "gemma3_window")
  scaling = dict(references.LLAMA3_ROPE)
  theta = scaling.pop("rope_theta")
  llama = families.from_json(
    common
    | {
      "model_type": "llama",
      "num_hidden_layers": 3,
      "rope_theta": theta,
      "rope_scaling": scaling,
      "tie_word_embeddings": True,
    }
  )
  assert llama == huggingface.read_config(ROOT / "llama3_rope_tied")
  # The family's defaults: Gemma-2's are those of gemma-2-2b.
  gemma2 = families.from_json(common | {"model_type": "gemma2"})
  assert (gemma2.sliding_window, gemma2.global_every) == (4096, 2)
  assert (gemma2.attention_softcap, gemma2.logit_softcap) == (50.0, 30.0)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model_type": "gpt2"}, "model_type 'gpt2' is none of the families"),
    ({"model_type": None}, "model_type None is none"),
    ({"hidden_size": None}, "hidden_size must be a positive whole number, got None"),
    ({"num_hidden_layers": "3"}, "num_hidden_layers must be .*, got '3'"),
    ({"hidden_activation": "relu"}, "activation 'relu' is not that of Gemma2"),
    ({"rope_parameters": YARN}, "scaling 'yarn' is not"),
    ({"rope_scaling": YARN}, "contradict each other, 'yarn' and 'default'"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    ({"layer_types": ["sliding_attention"] * 2}, "layer_types must name every layer"),
    ({"layer_types": ["full_attention", "sliding_attention"] * 2}, "with one period"),
    ({"use_bidirectional_attention": True}, "the decoder is causal"),
  ],
)
def test_a_config_of_another_architecture_is_refused(changes, message):
  settings = huggingface.read_settings(ROOT / "gemma2_window") | changes
  with pytest.raises(ConfigError, match=message):
    families.from_json(settings)


@pytest.mark.parametrize("name", NAMES)
def test_fresh_parameters_have_rules_and_are_counted(name):
  config = huggingface.read_config(ROOT / name)
  params = shapes(config)
  assert sum(x.size for x in jax.tree.leaves(params)) == num_params(config)
  trees.match(params, partition_rules(config))  # An error where one is missing.


def test_fresh_norms_are_the_identity_and_biases_zero():
  """Where norms have no offset; for others see decoder_test.py."""
  config = huggingface.read_config(ROOT / "llama_biases")
  assert not config.norm_offset

  def vectors(key):  # What is not returned is not compiled.
    params = Decoder(config).init(key)
    leaves = zip(trees.paths(params), jax.tree.leaves(params), strict=True)
    return {path: leaf for path, leaf in leaves if path.endswith(("scale", "bias"))}

  fresh = jax.jit(vectors)(jax.random.key(0))
  assert len(fresh) == 3 + 7
  for path, leaf in fresh.items():
    assert np.all(np.asarray(leaf) == path.endswith("scale")), path


# Norms with an offset and without one, with biases and a head of its own.
@pytest.mark.parametrize("name", ["gemma3_scaled_rope", "llama_biases"])
def test_noise_leads_to_a_fresh_model_of_the_family(name):
  config, params = huggingface.load(ROOT / name)
  params = jax.device_get(params)
  key = jax.random.key(3)

  toward_init = jax.jit(
    functools.partial(interpolation.toward_init, beta=0.5, rules=noise_rules(config))
  )

  def noised(alpha):
    got = jax.device_get(toward_init(params, key, alpha=alpha))
    return dict(zip(trees.paths(got), jax.tree.leaves(got), strict=True))

  start, half, end = noised(0.0), noised(0.5), noised(1.0)
  for path, leaf in zip(trees.paths(params), jax.tree.leaves(params), strict=True):
    np.testing.assert_array_equal(start[path], leaf)
    if path.endswith(("scale", "bias")):
      plain = path.endswith("scale") and not config.norm_offset
      fresh = np.float32(1.0 if plain else 0.0)
      np.testing.assert_array_equal(end[path], np.full(leaf.shape, fresh))
      np.testing.assert_allclose(half[path], (leaf + fresh) / 2, rtol=1e-6)
    else:  # Xavier's bound times beta; the matrices of the layers differ.
      bound = 0.5 * np.sqrt(6.0 / sum(leaf.shape[-2:]))
      assert 0.8 * bound < np.abs(end[path]).max() <= bound, path


def test_a_checkpoint_names_a_tensor_of_each_layer_by_its_norms():
  two = testing.config(post_norms=False, num_layers=2)
  four = testing.config(post_norms=True, num_layers=2)
  before = "layers/pre_mlp_norm/scale"
  assert families.tensor_names(two, before) == [
    f"model.layers.{i}.post_attention_layernorm.weight" for i in range(2)
  ]
  assert families.tensor_names(four, before) == [
    f"model.layers.{i}.pre_feedforward_layernorm.weight" for i in range(2)
  ]
  assert families.tensor_names(four, "layers/mlp/down/kernel") == [
    f"model.layers.{i}.mlp.down_proj.weight" for i in range(2)
  ]
  assert families.tensor_names(four, "embedding") == ["model.embed_tokens.weight"]
