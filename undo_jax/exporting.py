"""Hands a model back: a Hugging Face directory with tokenizer and model card."""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import jax

from undo_jax import cards, files, sources
from undo_jax.attacks import lora
from undo_jax.data import tokenizer_export, tokenizers
from undo_jax.models import huggingface, peft
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.training.checkpointing import load_params
from undo_jax.types import ConfigError, Params


@dataclasses.dataclass(frozen=True)
class Exported:
  """What is written: a model, what is known of it, and what config.json keeps."""

  config: ModelConfig
  params: Params
  history: Sequence[cards.Entry]
  settings: dict[str, Any]  # The config.json it came from, or empty.
  tokenizer: str | None  # Its name, see data/tokenizers.py.


def export(
  checkpoint: pathlib.Path,
  output: pathlib.Path,
  *,
  learning_rate: float | None = None,
  adapter: pathlib.Path | None = None,
  tokenizer: str | None = None,
  dtype: str | None = None,
) -> None:
  """Writes weights, config, tokenizer and model card, whole or not at all.

  Args:
    checkpoint: the directory of a trained stage or of an attack, or Hugging Face's.
    output: a new directory.
    learning_rate: which member of an attack; None: `checkpoint` is no attack.
    adapter: a directory of PEFT's to be merged into the weights, or None.
    tokenizer: a name for data/tokenizers.py; None: that of the run.
    dtype: of the stored weights, float32 or bfloat16; None: as they are.

  Raises:
    ConfigError: if `checkpoint` holds no model, `output` exists or cannot be
      written, or the tokenizer is larger than the model's vocabulary.
  """
  checkpoint = sources.find(checkpoint)
  with files.new_directory(output) as temporary:
    found = read(checkpoint, learning_rate=learning_rate)
    if adapter is not None:
      found = _with_adapter(found, adapter)
    name = tokenizer or found.tokenizer
    if name is not None:
      _check_fits(name, found.config)
      tokenizer_export.write(name, temporary)
    else:
      tokenizer_export.copy(checkpoint, temporary)
    huggingface.write(
      temporary, found.config, found.params, dtype=dtype, extra=found.settings
    )
    cards.save(temporary, found.history)
    card = cards.render(output.name, found.history, found.config)
    files.write_text(temporary / "README.md", card)


def read(checkpoint: pathlib.Path, *, learning_rate: float | None = None) -> Exported:
  """Reads a model with its history; see `export`."""
  if cards.is_attack(checkpoint):
    return _read_attack(checkpoint, learning_rate)
  if learning_rate is not None:
    raise ConfigError(
      f"--learning_rate chooses a member of an attack, and {checkpoint} is none"
    )
  source = sources.open_source(checkpoint)
  if not source.is_stage:
    config, params = huggingface.load(checkpoint)
    settings = huggingface.read_settings(checkpoint)
    history = cards.history(checkpoint)
    return Exported(config, params, history, settings, None)
  params = sources.load(source, _abstract(source.model))
  history = cards.history(checkpoint)
  return Exported(
    source.model,
    params,
    history,
    _settings_of(history),
    cards.tokenizer(history),
  )


def _read_attack(checkpoint, learning_rate) -> Exported:
  """Returns one member of an attack; adapters are merged into what it attacked."""
  history = cards.history(checkpoint)
  stage = history[-1].stage
  rates = stage["settings"]["attack"]["learning_rates"]
  if learning_rate not in rates:
    raise ConfigError(
      f"--learning_rate must be one of the attack's, {rates}, got {learning_rate}"
    )
  config = ModelConfig(**stage["settings"]["model"])
  member = rates.index(learning_rate)
  attacked = checkpoint.parent / stage["input_directories"]["model"]
  adapters = stage["settings"]["attack"].get("lora")
  shapes = _abstract(config)
  if adapters:
    shapes = jax.eval_shape(
      lambda params, key: lora.init(
        params, key, rank=adapters["rank"], targets=adapters["targets"]
      ),
      shapes,
      jax.random.key(0),
    )
  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  population = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct((len(rates), *s.shape), s.dtype, sharding=where),
    shapes,
  )
  trained = load_params(checkpoint / "checkpoints", population)
  params = jax.tree.map(lambda leaf: leaf[member], trained)
  if adapters:
    base = read(attacked).params
    params = lora.merge(base, params, scale=adapters["alpha"] / adapters["rank"])
  return Exported(
    config, params, history, _settings_of(history), cards.tokenizer(history)
  )


def _with_adapter(found: Exported, directory: pathlib.Path) -> Exported:
  adapter = peft.load(directory, found.config)
  params = lora.merge(found.params, adapter.adapters, scale=adapter.scale)
  return dataclasses.replace(found, params=params)


def _settings_of(history: Sequence[cards.Entry]) -> dict[str, Any]:
  """Returns the config.json of the Hugging Face model at the start, if there is one."""
  for entry in history:
    path = pathlib.Path(entry.stage.get("path", ""))
    if entry.stage["kind"] == "given" and (path / "config.json").is_file():
      settings = files.read_json(path / "config.json")
      return settings if "model_type" in settings else {}
  return {}


def _check_fits(name: str, config: ModelConfig) -> None:
  size = tokenizers.make(name).vocab_size
  if size > config.vocab_size:
    raise ConfigError(
      f"the tokenizer {name!r} has {size} ids and the model only {config.vocab_size}; "
      "give the tokenizer the model was trained with"
    )


def _abstract(config: ModelConfig) -> Params:
  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shapes = jax.eval_shape(Decoder(config).init, jax.random.key(0))
  return jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes
  )
