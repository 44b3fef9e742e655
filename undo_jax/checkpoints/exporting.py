"""Export: a model as a Hugging Face directory with tokenizer and model card."""

from collections.abc import Sequence
import dataclasses
import logging
import os
import pathlib
import shutil
from typing import Any

import jax

from undo_jax import attacks
from undo_jax.attacks.attack import Attack, Members
from undo_jax.checkpoints import cards, sources
from undo_jax.data import tokenizers
from undo_jax.data.tokenizers import export as tokenizer_export
from undo_jax.models import expansion, huggingface, lora, peft
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.plan.stages import AblateStage, AttackStage, GivenStage
from undo_jax.training.checkpointing import load_params
from undo_jax.utils import files
from undo_jax.utils.types import ConfigError, JsonObject, Params

LOGGER = logging.getLogger("undo_jax")
_GENERATION = "generation_config.json"  # What ends a text, how tokens are drawn.


@dataclasses.dataclass(frozen=True)
class Exported:
  """What is written: a model, what is known of it, and what config.json keeps."""

  config: ModelConfig
  params: Params
  history: Sequence[cards.Entry]
  settings: JsonObject  # The config.json it came from, or empty.
  generation: JsonObject  # The generation_config.json beside that, or empty.
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
  """Write weights, config, tokenizer and model card, whole or not at all.

  A model whose reserved units were ablated is written without them.

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
  checkpoint = pathlib.Path(sources.find(checkpoint))
  with files.new_directory(output) as temporary:
    exported = _contracted(read(checkpoint, learning_rate=learning_rate))
    if adapter is not None:
      exported = _with_adapter(exported, adapter)
    name = tokenizer or exported.tokenizer
    settings, generation = exported.settings, exported.generation
    if name is not None:
      made = tokenizers.make(name)
      _check_fits(name, made, exported.config)
      tokenizer_export.write(name, temporary)
      settings = _with_special_ids(settings, made)
      generation = {k: _with_special_ids(generation, made)[k] for k in generation}
    else:
      tokenizer_export.copy(checkpoint, temporary)
    if generation:
      files.write_json(temporary / _GENERATION, generation)
    huggingface.write(
      temporary, exported.config, exported.params, dtype=dtype, extra=settings
    )
    cards.save(temporary, exported.history)
    card = cards.render(output.name, exported.history, exported.config)
    files.write_text(temporary / "README.md", card)


def export_gguf(checkpoint: pathlib.Path, output: pathlib.Path, **options: Any) -> None:
  """Write a model with its tokenizer as one GGUF file, whole or not at all.

  Args:
    checkpoint: see `export`.
    output: a new file.
    **options: of `export`.

  Raises:
    ConfigError: as `export`, and if the model or its tokenizer has no form in GGUF;
      see gguf_export.py.
  """
  from undo_jax.checkpoints import gguf_export  # Here, since it needs gguf.

  if output.exists():
    raise ConfigError(f"{output} exists already and is not overwritten; give another")
  with files.new_directory(output.with_name(f"{output.name}.parts")) as parts:
    export(checkpoint, parts / output.stem, **options)
    gguf_export.write(parts / output.stem, parts / output.name)
    os.replace(parts / output.name, output)
    shutil.rmtree(parts / output.stem)
  output.with_name(f"{output.name}.parts").rmdir()


def read(checkpoint: pathlib.Path, *, learning_rate: float | None = None) -> Exported:
  """Read a model with its history; see `export`."""
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
    generation = files.read_optional(checkpoint / _GENERATION)
    return Exported(config, params, history, settings, generation, None)
  params = sources.load(source, _abstract(source.model))
  return _made(source.model, params, cards.history(checkpoint))


def _contracted(exported: Exported) -> Exported:
  """Return an ablated model without its reserved units, so none can be revived."""
  stage = exported.history[-1].stage if exported.history else None
  if not isinstance(stage, AblateStage):
    return exported
  units = {"mlp_units": stage.reserve.mlp_units, "kv_heads": stage.reserve.kv_heads}
  reserved = expansion.reserve(exported.config, **units)
  config, params = expansion.contract(exported.config, exported.params, reserved)
  return dataclasses.replace(exported, config=config, params=params)


def export_adapter(
  checkpoint: pathlib.Path, output: pathlib.Path, *, learning_rate: float | None
) -> None:
  """Write the adapters of a member of a LoRA attack as PEFT reads them.

  Args:
    checkpoint: the directory of an attack whose config has lora.
    output: a new directory.
    learning_rate: which member.

  Raises:
    ConfigError: if `checkpoint` is no LoRA attack or has no such member, or `output`
      exists or cannot be written.
  """
  checkpoint = pathlib.Path(sources.find(checkpoint))
  stage = cards.last(checkpoint) if cards.is_attack(checkpoint) else None
  adapted = _adapters(checkpoint, stage) if isinstance(stage, AttackStage) else None
  if not isinstance(stage, AttackStage) or adapted is None:
    raise ConfigError(
      f"only an attack whose adversary is lora has adapters, {checkpoint} is none"
    )
  adapters = _member(checkpoint, stage, learning_rate)
  peft.save(output, stage.model, adapters, alpha=adapted.alpha)


def _read_attack(checkpoint: pathlib.Path, learning_rate: float | None) -> Exported:
  """Return one member of an attack, as the model that it stands for."""
  stage = cards.last(checkpoint)
  assert isinstance(stage, AttackStage), "the caller has asked"
  members = _members(checkpoint, stage)
  if members.apply is not None:
    raise ConfigError(
      f"{checkpoint}: expected an attack that ends in weights, got {stage.adversary}, "
      "which leaves them as they are; export the model that is attacked"
    )
  params = _member(checkpoint, stage, learning_rate)
  frozen: dict[str, Params] = {}
  if members.reads_base:
    frozen["base"] = read(cards.inputs(checkpoint)["model"]).params
  params = members.weights(params, frozen)
  return _made(stage.model, params, cards.history(checkpoint))


def _made(
  config: ModelConfig, params: Params, history: Sequence[cards.Entry]
) -> Exported:
  """Return a model of a run with what is kept of the one that the run was given."""
  settings, generation = _settings_of(history)
  name = cards.tokenizer(history)
  return Exported(config, params, history, settings, generation, name)


def _member(
  checkpoint: pathlib.Path, stage: AttackStage, learning_rate: float | None
) -> Params:
  """Return what one learning rate's member of an attack has trained."""
  rates = stage.learning_rates
  if learning_rate not in rates:
    raise ConfigError(
      f"--learning_rate must be one of the attack's, {list(rates)}, got {learning_rate}"
    )
  members = _members(checkpoint, stage)
  key = jax.random.key(0)
  shapes = jax.eval_shape(members.start, _abstract(stage.model), key)
  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  population = jax.tree.map(
    lambda s: jax.ShapeDtypeStruct((len(rates), *s.shape), s.dtype, sharding=where),
    shapes,
  )
  trained = load_params(checkpoint / "checkpoints", population)
  return jax.tree.map(lambda leaf: leaf[rates.index(learning_rate)], trained)


def _members(checkpoint: pathlib.Path, stage: AttackStage) -> Members:
  """Return what the members of an attack train; see `Registry.recorded`."""
  _attack(checkpoint, stage)
  return attacks.members_of(stage.model, stage.adversary, stage.options)


def _attack(checkpoint: pathlib.Path, stage: AttackStage) -> Attack:
  attack = attacks.REGISTRY.recorded(stage.adversary)
  if attack is None:
    raise ConfigError(
      f"{checkpoint}: its attack is {stage.adversary!r}, whose code is not run because "
      "a file names it; if you trust it, give --module=MODULE"
    )
  return attack


def _adapters(checkpoint: pathlib.Path, stage: AttackStage) -> lora.LoraConfig | None:
  """Return the adapters that an attack trains, if it trains adapters."""
  adapters = _attack(checkpoint, stage).adapters
  return None if adapters is None else adapters(stage.options)


def _with_adapter(exported: Exported, directory: pathlib.Path) -> Exported:
  adapter = peft.load(directory, exported.config)
  params = lora.merge(exported.params, adapter.adapters, scale=adapter.scale)
  return dataclasses.replace(exported, params=params)


def _settings_of(history: Sequence[cards.Entry]) -> tuple[JsonObject, JsonObject]:
  """Return config.json and generation_config.json of the model given at the start."""
  for entry in history:
    path = pathlib.Path(entry.path or "")
    # Of a history that another export has left there is the name alone.
    if not (isinstance(entry.stage, GivenStage) and path.is_absolute()):
      continue
    if not (path / "config.json").is_file():
      LOGGER.warning(
        "%s is gone: what its config.json and %s say is not exported", path, _GENERATION
      )
    else:
      settings = huggingface.read_settings(path)
      if "model_type" not in settings:  # A stage's.
        break
      return settings, files.read_optional(path / _GENERATION)
  return {}, {}


def _with_special_ids(settings, tokenizer: tokenizers.Tokenizer) -> JsonObject:
  """Return settings with the ids of the tokenizer that the model was made with.

  What the settings say stays where it includes the tokenizer's: one of several ends.
  """
  settings = dict(settings)
  for role in ("pad", "eos", "bos"):
    key, index = f"{role}_token_id", getattr(tokenizer, f"{role}_id")
    said = settings.get(key)
    if index not in (said if isinstance(said, list) else [said]):
      settings[key] = index
  return settings


def _check_fits(name: str, tokenizer: tokenizers.Tokenizer, config: ModelConfig):
  if tokenizer.vocab_size > config.vocab_size:
    raise ConfigError(
      f"the tokenizer {name!r} has {tokenizer.vocab_size} ids and the model only "
      f"{config.vocab_size}; give the tokenizer the model was trained with"
    )


def _abstract(config: ModelConfig) -> Params:
  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shapes = shapes_of(config)
  return jax.tree.map(
    lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes
  )
