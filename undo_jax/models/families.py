"""Model families: their config.json against ModelConfig, their tensors' names.

One decoder serves them all; a family is a table of fields. What a config.json asks
for and the decoder does not have is refused by name.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any, TypeAlias

from undo_jax.models import config_values as values
from undo_jax.models import rope_settings
from undo_jax.models.config import ModelConfig
from undo_jax.utils.types import ConfigError, JsonObject

Fields: TypeAlias = dict[str, Any]  # Of ModelConfig, by name.


@dataclasses.dataclass(frozen=True)
class Family:
  """How a family differs from the others."""

  architecture: str  # Class name in transformers.
  fields: Fields  # Of ModelConfig; the same for all of the family.
  activation_key: str  # Of config.json.
  tied: bool  # Where config.json does not say.
  window: bool = False  # Layers alternate between local and global.
  has_bias_option: bool = True  # attention_bias: of all four projections.


_GEMMA = {"activation": "gelu_tanh", "norm_offset": True, "scale_embedding": True}
_PLAIN = {
  "activation": "silu",
  "norm_offset": False,
  "scale_embedding": False,
  "post_norms": False,
}
FAMILIES = {
  "gemma": Family(
    "GemmaForCausalLM",
    {**_GEMMA, "post_norms": False, "qk_norm": False},
    activation_key="hidden_act",
    tied=True,
  ),
  "gemma2": Family(
    "Gemma2ForCausalLM",
    {**_GEMMA, "post_norms": True, "qk_norm": False},
    activation_key="hidden_activation",
    tied=True,
    window=True,
  ),
  "gemma3_text": Family(
    "Gemma3ForCausalLM",
    {**_GEMMA, "post_norms": True, "qk_norm": True},
    activation_key="hidden_activation",
    tied=True,
    window=True,
  ),
  "llama": Family(
    "LlamaForCausalLM", {**_PLAIN, "qk_norm": False}, "hidden_act", tied=False
  ),
  "qwen2": Family(
    "Qwen2ForCausalLM",
    {**_PLAIN, "qk_norm": False, "qkv_bias": True, "out_bias": False},
    "hidden_act",
    tied=False,
    has_bias_option=False,
  ),
  "qwen3": Family(
    "Qwen3ForCausalLM", {**_PLAIN, "qk_norm": True}, "hidden_act", tied=False
  ),
}

_SOFTCAPS = {
  "attention_softcap": "attn_logit_softcapping",
  "logit_softcap": "final_logit_softcapping",
}
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu_tanh", "silu": "silu"}
# (key of config.json, field of ModelConfig) of the sizes that every family states.
_SIZES = (
  ("vocab_size", "vocab_size"),
  ("num_hidden_layers", "num_layers"),
  ("hidden_size", "width"),
  ("num_attention_heads", "num_heads"),
  ("intermediate_size", "mlp_width"),
)


# MARK: config.json


def from_json(settings: JsonObject) -> ModelConfig:
  """Return the ModelConfig of a config.json, that of transformers 4 or 5.

  Raises:
    ConfigError: if the family is unknown, a size is missing or no whole number, or
      an option is on that the decoder does not have; named in the message.
  """
  model_type = settings.get("model_type")
  if not isinstance(model_type, str) or model_type not in FAMILIES:
    hint = ""
    if isinstance(settings.get("text_config"), Mapping):
      hint = "; of a model of text and images only the text model can be read"
    raise ConfigError(
      f"config.json: model_type {model_type!r} is none of the families that can be "
      f"read: {', '.join(FAMILIES)}{hint}"
    )
  if settings.get("quantization_config") is not None:
    raise ConfigError(
      "config.json: quantization_config is not supported; save the model dequantized"
    )
  family = FAMILIES[model_type]
  fields: Fields = dict(family.fields)
  for key, field in _SIZES:
    fields[field] = values.whole(settings, key)
  heads = fields["num_heads"]
  fields["num_kv_heads"] = values.whole(settings, "num_key_value_heads", heads)
  default = None if fields["width"] % heads else fields["width"] // heads
  fields["head_dim"] = values.whole(settings, "head_dim", default)
  fields["norm_epsilon"] = values.positive(settings, "rms_norm_eps", 1e-6)
  fields["init_std"] = values.positive(settings, "initializer_range", 0.02)
  fields["tied"] = values.switch(settings, "tie_word_embeddings", family.tied)
  _check_activation(settings, family)
  if family.has_bias_option:
    biased = values.switch(settings, "attention_bias", False)
    fields["qkv_bias"] = fields["out_bias"] = biased
  fields["mlp_bias"] = values.switch(settings, "mlp_bias", False)
  fields |= _gemma_options(settings, model_type, fields["head_dim"])
  fields |= _window(settings, family, fields["num_layers"])
  fields |= rope_settings.read(settings, model_type)
  return ModelConfig(**fields)


def to_json(config: ModelConfig, *, dtype: str) -> JsonObject:
  """Return a config.json that transformers 4 and 5 read.

  Args:
    config: the model.
    dtype: of the stored weights, as transformers names it: float32, bfloat16.

  Raises:
    ConfigError: if the model is of no family.
  """
  model_type = family_of(config)
  family = FAMILIES[model_type]
  settings: JsonObject = {
    "architectures": [family.architecture],
    "model_type": model_type,
    **{key: getattr(config, field) for key, field in _SIZES},
    "num_key_value_heads": config.num_kv_heads,
    "head_dim": config.head_dim,
    family.activation_key: next(
      theirs for theirs, ours in _ACTIVATIONS.items() if ours == config.activation
    ),
    "rms_norm_eps": config.norm_epsilon,
    "initializer_range": config.init_std,
    "tie_word_embeddings": config.tied,
    "attention_dropout": 0.0,
    "max_position_embeddings": 8192,
    "rope_theta": config.rope_theta,
    "rope_scaling": rope_settings.scaling_of(config),
    "torch_dtype": dtype,
    "use_cache": True,
  }
  if model_type == "gemma":
    settings["hidden_activation"] = settings["hidden_act"]  # transformers 4 reads it.
  if family.has_bias_option:
    settings["attention_bias"] = config.qkv_bias
  if model_type == "llama":
    settings["mlp_bias"] = config.mlp_bias
  if model_type.startswith("gemma"):
    settings |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
  if model_type in ("gemma2", "gemma3_text"):
    settings |= {
      "query_pre_attn_scalar": _int_if_whole(config.query_pre_attn_scalar),
      "attn_logit_softcapping": config.attention_softcap,
      "final_logit_softcapping": config.logit_softcap,
    }
  if family.window:
    window = config.sliding_window
    settings["sliding_window"] = window or settings["max_position_embeddings"]
    settings["layer_types"] = [
      "full_attention"
      if window is None or (i + 1) % config.global_every == 0
      else "sliding_attention"
      for i in range(config.num_layers)
    ]
    settings["cache_implementation"] = "hybrid"
  if model_type == "gemma3_text":
    local = config.rope_local_theta
    settings["rope_local_base_freq"] = config.rope_theta if local is None else local
  return settings


def family_of(config: ModelConfig) -> str:
  """Return the model_type whose config.json can state this model.

  Raises:
    ConfigError: if there is none.
  """
  reasons = []
  for model_type, family in FAMILIES.items():
    differing = _differences(config, model_type, family)
    if not differing:
      return model_type
    reasons.append(f"{model_type} differs in {', '.join(differing)}")
  raise ConfigError(
    "this model is of no family that transformers knows: " + "; ".join(reasons)
  )


def _differences(config, model_type, family) -> list[str]:
  """Return the fields that this family's config.json could not state."""
  names = [n for n, value in family.fields.items() if getattr(config, n) != value]
  if family.has_bias_option and config.qkv_bias != config.out_bias:
    names.append("qkv_bias and out_bias")
  if config.mlp_bias and model_type != "llama":
    names.append("mlp_bias")
  if config.sliding_window is not None and not family.window:
    names.append("sliding_window")
  if model_type not in ("gemma2", "gemma3_text"):
    if config.query_pre_attn_scalar != config.head_dim:
      names.append("query_pre_attn_scalar")
    if config.logit_softcap is not None:
      names.append("logit_softcap")
  if config.attention_softcap is not None and model_type != "gemma2":
    names.append("attention_softcap")
  if config.rope_local_theta is not None and model_type != "gemma3_text":
    names.append("rope_local_theta")
  return names


def _int_if_whole(value: float) -> float:
  """Write whole numbers without a point: Transformers 5 refuses 256.0 for them."""
  return int(value) if value == int(value) else value


def _check_activation(settings, family):
  keys = (family.activation_key, "hidden_activation", "hidden_act")
  name = next((settings[key] for key in keys if settings.get(key)), None)
  if family.fields["activation"] == "gelu_tanh" and name == "gelu":
    # First Gemma configs say "gelu" and mean its tanh form.
    name = settings.get("hidden_activation") or "gelu_pytorch_tanh"
  if name is not None and _ACTIVATIONS.get(str(name)) != family.fields["activation"]:
    raise ConfigError(
      f"config.json: the activation {name!r} is not that of "
      f"{family.architecture}, {family.fields['activation']}"
    )


def _gemma_options(settings, model_type, head_dim) -> Fields:
  options: Fields = {
    "query_pre_attn_scalar": float(head_dim),
    "attention_softcap": None,
    "logit_softcap": None,
  }
  if values.switch(settings, "use_bidirectional_attention", False):
    raise ConfigError(
      "config.json: use_bidirectional_attention is on; the decoder is causal"
    )
  if model_type in ("gemma2", "gemma3_text"):
    scalar = values.positive(settings, "query_pre_attn_scalar", 256.0)
    options["query_pre_attn_scalar"] = scalar
    caps = {"attention_softcap": 50.0, "logit_softcap": 30.0}
    for field, key in _SOFTCAPS.items():
      default = caps[field] if model_type == "gemma2" else None
      is_off = settings.get(key, default) is None  # Here null says so.
      options[field] = None if is_off else values.positive(settings, key, default)
  if model_type == "gemma3_text" and options["attention_softcap"] is not None:
    raise ConfigError(
      "config.json: attn_logit_softcapping is set, which Gemma-3 does not have"
    )
  return options


def _window(settings, family, num_layers) -> Fields:
  if not family.window:
    kinds = values.texts(settings, "layer_types") or ()
    is_on = values.switch(settings, "use_sliding_window", False)
    if is_on or "sliding_attention" in kinds:
      raise ConfigError(
        "config.json: use_sliding_window is on, which is not supported for "
        f"{family.architecture}"
      )
    return {"sliding_window": None}
  default = 2 if family.architecture.startswith("Gemma2") else 6
  every = values.whole(settings, "sliding_window_pattern", default)
  kinds = values.texts(settings, "layer_types")
  if kinds is not None:
    full = [i + 1 for i, kind in enumerate(kinds) if kind == "full_attention"]
    every = full[0] if full else num_layers + 1
    expected = [
      "sliding_attention" if (i + 1) % every else "full_attention"
      for i in range(num_layers)
    ]
    if list(kinds) != expected:
      raise ConfigError(
        "config.json: layer_types must name every layer and repeat with one period, "
        f"sliding_attention ... full_attention; got {kinds}"
      )
  if every == 1 or settings.get("sliding_window", 4096) is None:
    return {"sliding_window": None, "global_every": 1}
  window = values.whole(settings, "sliding_window", 4096)
  return {"sliding_window": window, "global_every": every}


# MARK: tensors

_MODULES = {
  "attention/query": "self_attn.q_proj",
  "attention/key": "self_attn.k_proj",
  "attention/value": "self_attn.v_proj",
  "attention/out": "self_attn.o_proj",
  "attention/query_norm": "self_attn.q_norm",
  "attention/key_norm": "self_attn.k_norm",
  "mlp/gate": "mlp.gate_proj",
  "mlp/up": "mlp.up_proj",
  "mlp/down": "mlp.down_proj",
  "pre_attention_norm": "input_layernorm",
}
_FOUR_NORMS = {
  "post_attention_norm": "post_attention_layernorm",
  "pre_mlp_norm": "pre_feedforward_layernorm",
  "post_mlp_norm": "post_feedforward_layernorm",
}
# With two norms a layer, transformers names the one before the MLP so.
_TWO_NORMS = {"pre_mlp_norm": "post_attention_layernorm"}
MODEL = "model."  # Begins every name but the head's.
EMBEDDING, HEAD = f"{MODEL}embed_tokens.weight", "lm_head.weight"
FREQUENCIES = "rotary_emb.inv_freq"  # Ends the name of a rotary table.
_ALONE = {
  "embedding": EMBEDDING,
  "head/kernel": HEAD,
  "final_norm/scale": "model.norm.weight",
}


def tensor_names(config: ModelConfig, path: str) -> list[str]:
  """Return the names of a parameter's tensors in a checkpoint: one, or N.

  Args:
    config: the model.
    path: of the parameter, as trees.paths gives it.
  """
  if path in _ALONE:
    return [_ALONE[path]]
  _, _, inner = path.partition("layers/")
  module, _, leaf = inner.rpartition("/")
  modules = _MODULES | (_FOUR_NORMS if config.post_norms else _TWO_NORMS)
  kind = "bias" if leaf == "bias" else "weight"
  return [
    f"model.layers.{i}.{modules[module]}.{kind}" for i in range(config.num_layers)
  ]


def is_transposed(path: str) -> bool:
  """Whether a checkpoint holds this parameter as (out, in): all matrices but the
  embedding.
  """
  return path.endswith("kernel")


def is_ignored(config: ModelConfig, name: str) -> bool:
  """Whether a checkpoint may hold this tensor though the model has no use for it.

  A copy of the tied embedding, and rotary tables.
  """
  return name.endswith(FREQUENCIES) or (config.tied and name == HEAD)
