"""Tests of the model's sizes."""

import dataclasses

import pytest

from undo_jax import testing
from undo_jax.models.config import (
  DTYPES,
  REMAT_POLICIES,
  layers_a_turn,
  num_params,
)
from undo_jax.models.presets import PRESETS
from undo_jax.utils.types import ConfigError

SIZES = (
  "vocab_size",
  "num_layers",
  "width",
  "num_heads",
  "num_kv_heads",
  "head_dim",
  "mlp_width",
  "sliding_window",
  "scan_unroll",
  "logits_chunk",
)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [0, -2])
def test_sizes_are_at_least_one(name, value):
  with pytest.raises(ConfigError, match=f"model.{name} must be at least 1, got"):
    testing.config(**{name: value})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_heads": 4, "num_kv_heads": 3}, "must divide num_heads=4, got 3"),
    ({"num_heads": 2, "num_kv_heads": 4}, "must divide num_heads=2, got 4"),
    ({"head_dim": 7}, "head_dim must be even.*got 7"),
    ({"num_layers": 2**31 - 1}, "num_layers must be at most 16777216, got 2147483647"),
    ({"attention_softcap": 1e30}, r"in \(0, 1e\+06\] or None, got 1e\+30"),
    (
      {"attention_softcap": 0.0},
      r"attention_softcap must be in .* got 0",
    ),
    (
      {"logit_softcap": -30.0},
      r"logit_softcap must be in .* got -30",
    ),
    ({"dtype": "float64"}, "dtype must be one of .*'bfloat16'.*got 'float64'"),
    ({"attention": "flash"}, "attention must be one of .*'splash'.*got 'flash'"),
    ({"remat": "all"}, "remat must be one of .*'dots'.*got 'all'"),
  ],
)
def test_wrong_options_name_the_field_and_the_value(changes, message):
  with pytest.raises(ConfigError, match=f"model.*{message}"):
    testing.config(**changes)


@pytest.mark.parametrize(
  "changes",
  [
    *({name: 1} for name in SIZES if name not in ("num_heads", "head_dim")),
    {"num_heads": 1, "num_kv_heads": 1},
    {"head_dim": 2},
    {"attention_softcap": None, "logit_softcap": None},
    *({"dtype": dtype} for dtype in DTYPES),
    *({"remat": policy} for policy in REMAT_POLICIES),
  ],
)
def test_the_smallest_values_and_all_options_are_allowed(changes):
  config = testing.config(**changes)
  assert {name: getattr(config, name) for name in changes} == changes


def test_a_config_is_a_frozen_key():
  config = testing.config()
  assert {config: 1}[testing.config()] == 1
  with pytest.raises(dataclasses.FrozenInstanceError):
    config.width = 3  # pyright: ignore


@pytest.mark.parametrize("name", [x for x in PRESETS if x.startswith("gemma2")])
def test_presets_share_the_values_of_gemma2_2b(name):
  sizes = {"num_layers", "width", "head_dim", "mlp_width"}
  reference = dataclasses.asdict(PRESETS["gemma2_2b"])
  shared = {k: v for k, v in reference.items() if k not in sizes}
  preset = dataclasses.asdict(PRESETS[name])
  assert {k: v for k, v in preset.items() if k not in sizes} == shared


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("vocab_size", 256_000),
    ("num_heads", 8),
    ("num_kv_heads", 4),
    # The attention scale is 1/16 at every size, also where head_dim is 128.
    ("query_pre_attn_scalar", 16**2),
    ("attention_softcap", 50.0),
    ("logit_softcap", 30.0),
    ("sliding_window", 4096),
    ("rope_theta", 10_000.0),
    ("norm_epsilon", 1e-6),
    ("init_std", 0.02),
  ],
)
def test_gemma2_2b_has_its_published_values(name, value):
  assert getattr(PRESETS["gemma2_2b"], name) == value


def test_smollm2_has_its_published_size():
  assert num_params(PRESETS["smollm2_135m"]) == 134_515_008


# Embedding 16*16; layer: query and out 2*16*4*8, key and value 2*16*2*8, MLP
# 3*16*32, four norms 4*16; final norm 16.
def test_num_params_of_the_tiny_config():
  layer = 2 * 16 * 32 + 2 * 16 * 16 + 3 * 16 * 32 + 4 * 16
  assert num_params(testing.config()) == 256 + 2 * layer + 16


def test_layers_of_small_models_are_unrolled_unless_the_config_says_how_many():
  small = testing.config(num_layers=3, scan_unroll=None)
  assert layers_a_turn(small) == 3
  assert layers_a_turn(dataclasses.replace(small, num_layers=30)) == 8
  large = dataclasses.replace(small, vocab_size=2_000_000)
  assert layers_a_turn(large) == 1
  assert layers_a_turn(dataclasses.replace(large, scan_unroll=2)) == 2
