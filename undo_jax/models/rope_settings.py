"""Rotary positions in a config.json, read and written."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from undo_jax.models import config_values as values
from undo_jax.models.config import ModelConfig
from undo_jax.utils.types import ConfigError, JsonObject

Fields: TypeAlias = dict[str, Any]


def read(settings: JsonObject, model_type: str) -> Fields:
  """Read rope_parameters (transformers 5) or rope_theta and rope_scaling (4).

  Returns:
    Fields of ModelConfig by name.

  Raises:
    ConfigError: if the decoder has no such positions, or two blocks differ.
  """
  parameters = values.mapping(settings, "rope_parameters")
  fields: Fields = {}
  default = 10_000.0
  if model_type == "gemma3_text":
    default = 1_000_000.0
    local = values.mapping(parameters, "sliding_attention")
    if local.get("rope_type", "default") != "default":
      raise ConfigError("config.json: the rope of sliding_attention is scaled")
    local = {"rope_theta": settings.get("rope_local_base_freq"), **local}
    fields["rope_local_theta"] = values.positive(local, "rope_theta", 10_000.0)
    if "full_attention" in parameters:
      parameters = values.mapping(parameters, "full_attention")
  if any(isinstance(value, Mapping) for value in parameters.values()):
    raise ConfigError(
      f"config.json: rope_parameters are by kind of layer, {list(parameters)}; that is "
      f"not supported for {model_type}"
    )
  scaling = values.mapping(settings, "rope_scaling")
  # Of two that differ, versions of transformers read one or the other.
  _agree("rope_theta", "rope_parameters", settings, parameters, _theta)
  if scaling:
    _agree("rope_theta", "rope_scaling", settings, scaling, _theta)
    _agree("rope_scaling", "rope_parameters", scaling, parameters, _theta)
    _agree("rope_scaling", "rope_parameters", scaling, parameters, _kind)
  scaling = parameters | scaling
  theta = {"rope_theta": settings.get("rope_theta"), **scaling}
  fields["rope_theta"] = values.positive(theta, "rope_theta", default)
  partial = scaling.get("partial_rotary_factor", settings.get("partial_rotary_factor"))
  if partial not in (None, 1.0):
    raise ConfigError(f"config.json: partial_rotary_factor {partial} is not supported")
  kind = _kind(scaling)
  if kind == "default":
    return fields
  if kind not in ("linear", "llama3"):
    raise ConfigError(
      f"config.json: the rope scaling {kind!r} is not supported; known are default, "
      "linear and llama3"
    )
  fields["rope_factor"] = values.positive(scaling, "factor")
  if kind == "llama3":
    fields["rope_low_factor"] = values.positive(scaling, "low_freq_factor")
    fields["rope_high_factor"] = values.positive(scaling, "high_freq_factor")
    longest = settings.get("max_position_embeddings")
    length = values.whole(scaling, "original_max_position_embeddings", longest)
    fields["rope_original_length"] = length
  return fields


def _theta(settings: JsonObject) -> object:
  return settings.get("rope_theta")


def _kind(scaling: JsonObject) -> object:
  return scaling.get("rope_type", scaling.get("type", "default"))


def _agree(
  one: str,
  other: str,
  first: JsonObject,
  second: JsonObject,
  value: Callable[[JsonObject], object],
) -> None:
  """Raise ConfigError if two blocks that are there say different things."""
  said, also = value(first), value(second)
  if first and second and None not in (said, also) and said != also:
    raise ConfigError(
      f"config.json: {one} and {other} contradict each other, {said!r} and {also!r}; "
      "remove the one that is not meant"
    )


def scaling_of(config: ModelConfig) -> Fields | None:
  """Return the rope_scaling of a model; None: there is none."""
  if config.rope_original_length is not None:
    return {
      "rope_type": "llama3",
      "factor": config.rope_factor,
      "low_freq_factor": config.rope_low_factor,
      "high_freq_factor": config.rope_high_factor,
      "original_max_position_embeddings": config.rope_original_length,
    }
  if config.rope_factor != 1.0:
    return {"rope_type": "linear", "factor": config.rope_factor}
  return None
