"""Checks of a config before any compute: what was expected, what came, the mend."""

import functools
import math
import pathlib
from typing import Any

import jax

from undo_jax import files, objectives
from undo_jax.attacks import lora
from undo_jax.data import arithmetic, packing, tokenizers
from undo_jax.frontier.results import METRICS
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.stages import OPTIMIZER_FIELDS, undo_name
from undo_jax.training.optimizers import OptimizerConfig
from undo_jax.types import ConfigError

UNLEARNING = ("max_ent", "grad_diff", "rmu")
# What may differ between the runs of one workdir: how, not what, is computed.
FREE_FIELDS = ("mesh", "checkpoint_every", "evaluation_rows", "replicas_at_once")


def check(config: Any, mesh_shape: dict[str, int]) -> None:
  """Raises ConfigError at the first field of the config that cannot work.

  Args:
    config: a whole ConfigDict, see configs/arithmetic.py.
    mesh_shape: devices along each mesh axis.
  """
  if config.setting not in METRICS:
    _fail("setting", f"one of {', '.join(METRICS)}", config.setting)
  _check_at_least(config, "seed", 0)
  _check_at_least(config, "checkpoint_every", 1)
  _check_at_least(config, "evaluation_rows", 1)
  for name, value in config.streams.items():
    if value is not None and value < 0:
      _fail(f"streams.{name}", "None or an integer of at least 0", value)
  _check_data(config)
  _check_model(config)
  shards = mesh_shape["data"] * mesh_shape["fsdp"]
  _check_training(config, "pretrain", shards)
  _check_training(config, "oracle", shards)
  _check_training(config, "distill", shards)
  _check_unlearn(config, shards)
  _check_undo(config)
  _check_attack(config, shards, mesh_shape["replica"])


def claim_workdir(workdir: pathlib.Path, config: Any) -> None:
  """Makes the run directory the config's own, or checks that it is.

  Raises:
    ConfigError: if the path is no directory, cannot be written, or belongs to a
      run of another config; names the fields that differ.
  """
  path = workdir / "config.json"
  mine = files.plain(config.to_dict())
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      files.write_json(path, mine)
  except (FileExistsError, NotADirectoryError, PermissionError) as error:
    raise ConfigError(
      f"--workdir must be a directory that can be written, got {workdir} "
      f"({error.strerror}); give another path"
    ) from error
  theirs = files.read_json(path)
  differing = _differences(_effective(theirs), _effective(mine))
  if differing:
    raise ConfigError(
      f"--workdir {workdir} belongs to a run of another config, which differs in "
      + "; ".join(differing)
      + ". Give another workdir, or the same config to resume"
    )
  if theirs != mine:  # In how it runs: free to change.
    files.write_json(path, mine)


def _check_data(config):
  data = config.data
  _check_at_least(config, "data.num_equations", 0)
  _check_at_least(config, "data.num_word_problems", 0)
  _check_at_least(config, "data.num_evaluation", 1)
  _check_at_least(config, "data.sequence_length", 2)
  if not data.num_equations + data.num_word_problems:
    _fail("data.num_equations", "at least 1 where there are no word problems", 0)
  if data.packing not in packing.MODES:
    _fail("data.packing", f"one of {', '.join(packing.MODES)}", data.packing)
  if not 0 < data.forget_weight < 1:
    _fail("data.forget_weight", "a number strictly between 0 and 1", data.forget_weight)
  tokenizer = tokenizers.make(data.tokenizer)
  _check_documents_fit(data, tokenizer)
  if config.model.vocab_size < tokenizer.vocab_size:
    _fail(
      "model.vocab_size",
      f"at least {tokenizer.vocab_size}, the size of the tokenizer {data.tokenizer!r}",
      config.model.vocab_size,
    )


def _check_documents_fit(data, tokenizer):
  """Checks the letters of word problems and the equations in this tokenizer."""
  if data.num_word_problems and data.tokenizer == "characters:arithmetic":
    _fail(
      "data.tokenizer",
      "one with letters (characters:ascii or bytes), since there are word problems",
      data.tokenizer,
    )
  texts = [problem.text for problem in arithmetic.equations()]
  encoded = [tokenizer.encode(text) for text in texts]
  for text, ids in zip(texts, encoded, strict=True):
    if tokenizer.decode(ids) != text:
      _fail(
        "data.tokenizer",
        f"one that gives back equations as they were, but {text!r} became "
        f"{tokenizer.decode(ids)!r}",
        data.tokenizer,
      )
  lengths = [len(ids) + (tokenizer.bos_id is not None) for ids in encoded]
  which, needed = "shortest", min(lengths)
  if data.packing == "one_per_row":
    which, needed = "longest", max(lengths)
  if data.sequence_length < needed:
    _fail(
      "data.sequence_length",
      f"at least {needed} with packing {data.packing}, the {which} equation",
      data.sequence_length,
    )


def _check_model(config):
  try:
    ModelConfig(**config.model)
  except ConfigError as error:
    raise ConfigError(f"config.{error}") from None


def _check_training(config, name, shards):
  training = config
  for part in name.split("."):
    training = training[part]
  _check_at_least(config, f"{name}.batch_size", 1)
  _check_at_least(config, f"{name}.num_microbatches", 1)
  if training.batch_size % training.num_microbatches:
    _fail(
      f"{name}.num_microbatches",
      f"a divisor of {name}.batch_size={training.batch_size}",
      training.num_microbatches,
    )
  if (training.batch_size // training.num_microbatches) % shards:
    _fail(
      f"{name}.batch_size",
      f"a multiple of num_microbatches x {shards} (devices along data x fsdp)",
      training.batch_size,
    )
  try:
    OptimizerConfig(**{field: training[field] for field in OPTIMIZER_FIELDS})
  except ConfigError as error:
    raise ConfigError(f"config.{name}: {error}") from None


def _check_unlearn(config, shards):
  methods = config.unlearn.methods
  if not methods or len(set(methods)) != len(methods):
    _fail("unlearn.methods", "at least one method, none twice", methods)
  for method in methods:
    if method not in UNLEARNING:
      _fail("unlearn.methods", f"methods among {', '.join(UNLEARNING)}", method)
    _check_training(config, f"unlearn.{method}", shards)
    objectives.check(method, dict(config.unlearn[method].options))
  if "rmu" in methods:
    layers = config.unlearn.rmu.options.layers
    if not layers or min(layers) < 0 or max(layers) >= config.model.num_layers:
      _fail(
        "unlearn.rmu.options.layers",
        f"layers in [0, {config.model.num_layers})",
        layers,
      )


def _check_undo(config):
  undo = config.undo
  if undo.teacher not in config.unlearn.methods:
    _fail(
      "undo.teacher", f"one of unlearn.methods {config.unlearn.methods}", undo.teacher
    )
  for index, alpha in enumerate(undo.alphas):
    _check_unit(f"undo.alphas[{index}]", alpha)
  names = [undo_name(alpha) for alpha in undo.alphas]
  if len(set(names)) != len(names):
    _fail("undo.alphas", "values that differ", undo.alphas)
  _check_unit("undo.beta", undo.beta)
  _check_at_least(config, "distill.stop.evaluate_every", 1)
  _check_unit("distill.stop.tolerance", config.distill.stop.tolerance)


def _check_attack(config, shards, replicas):
  attack = config.attack
  for name in ("num_steps", "evaluate_every", "evaluations_per_call", "batch_size"):
    _check_at_least(config, f"attack.{name}", 1)
  if attack.num_steps % attack.evaluate_every:
    _fail(
      "attack.evaluate_every",
      f"a divisor of attack.num_steps={attack.num_steps}",
      attack.evaluate_every,
    )
  rates = attack.learning_rates
  if not rates or any(not _is_number(rate) or rate <= 0 for rate in rates):
    _fail("attack.learning_rates", "at least one number, all above 0", rates)
  if len(rates) % replicas:
    _fail(
      "attack.learning_rates",
      f"a number of rates that divides over the {replicas} devices of mesh.replica",
      f"{len(rates)} rates",
    )
  at_once = config.replicas_at_once
  if at_once is not None and (
    at_once < 1 or len(rates) % at_once or at_once % replicas
  ):
    _fail(
      "replicas_at_once",
      f"None or a divisor of the {len(rates)} attack.learning_rates that divides over "
      f"the {replicas} devices of mesh.replica",
      at_once,
    )
  if attack.batch_size % shards:
    _fail(
      "attack.batch_size",
      f"a multiple of {shards} (devices along data x fsdp)",
      attack.batch_size,
    )
  if attack.weight_decay < 0 or attack.clip_norm <= 0:
    _fail("attack", "weight_decay >= 0 and clip_norm > 0", dict(attack))
  _check_lora(config)


def _check_lora(config):
  settings = config.attack.lora
  _check_at_least(config, "attack.lora.rank", 0)
  if not settings.rank:
    return  # Off: the rest is not read.
  if not _is_number(settings.alpha) or settings.alpha <= 0:
    _fail("attack.lora.alpha", "a number above 0", settings.alpha)
  init = Decoder(ModelConfig(**config.model)).init
  draw = functools.partial(lora.init, rank=settings.rank, targets=settings.targets)
  try:
    jax.eval_shape(lambda key: draw(init(key), key), jax.random.key(0))
  except ValueError as error:
    raise ConfigError(
      f"config.attack.lora: {error}; set it by --config.attack.lora.rank=VALUE and "
      "--config.attack.lora.targets=VALUE"
    ) from None


def _check_unit(name, value):
  if not _is_number(value) or not 0 <= value <= 1:
    _fail(name, "a number in [0, 1]", value)


def _check_at_least(config, name, smallest):
  value = config
  for part in name.split("."):
    value = value[part]
  if value < smallest:
    _fail(name, f"an integer of at least {smallest}", value)


def _is_number(value):
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  return is_number and math.isfinite(value)


def _fail(name: str, expected: str, got: Any):
  raise ConfigError(
    f"config.{name}: expected {expected}, got {got!r}; "
    f"set it by --config.{name.split('[')[0]}=VALUE or in the config file"
  )


def _effective(config: dict[str, Any]) -> dict[str, Any]:
  """Returns the config without LoRA's block where it is off, or from before it."""
  attack = dict(config["attack"])
  if not attack.get("lora", {"rank": 0})["rank"]:
    attack.pop("lora", None)
  return config | {"attack": attack}


def _differences(theirs, mine, prefix=""):
  found = []
  for name in sorted({*theirs, *mine}):
    if not prefix and name in FREE_FIELDS:
      continue
    old, new = theirs.get(name, "nothing"), mine.get(name, "nothing")
    if isinstance(old, dict) and isinstance(new, dict):
      found += _differences(old, new, f"{prefix}{name}.")
    elif old != new:
      found.append(f"config.{prefix}{name} ({old!r} there, {new!r} here)")
  return found
