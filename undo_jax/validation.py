"""Checks of a config before any compute: what was expected, what came, the mend."""

from collections.abc import Sequence
import functools
import re
from typing import Any

import jax

from undo_jax import objectives
from undo_jax import tasks as settings
from undo_jax.data import packing, tokenizers
from undo_jax.frontier.robustness import UNLEARNED_ONLY
from undo_jax.models import expansion, lora
from undo_jax.models.config import ModelConfig
from undo_jax.models.decoder import Decoder
from undo_jax.stages import (
  ATTACK,
  DISTILL,
  DISTILLATION,
  FILTERED,
  MIXTURES,
  OPTIMIZER_FIELDS,
  PAIRED,
  PRETRAIN,
  ROUTED,
  WHOLE,
  changed,
  length,
  part_rows,
  routed_plan,
  undo_name,
)
from undo_jax.training.optimizers import OptimizerConfig, trainable_rules
from undo_jax.utils import checks, files, trees, workdirs
from undo_jax.utils.types import ConfigError

# Objectives that unlearn.
UNLEARNING = ("max_ent", "grad_diff", "rmu", "max_ent_rep_noise")
# What may differ between the runs of one workdir: how, not what, is computed.
FREE_FIELDS = (
  "mesh",
  "checkpoint_every",
  "max_loss",
  "evaluation_rows",
  "replicas_at_once",
  "report",
)


def check(config: Any, mesh_shape: dict[str, int]) -> None:
  """Raises ConfigError at the first field of the config that cannot work.

  Args:
    config: a whole ConfigDict, see configs/arithmetic.py.
    mesh_shape: devices along each mesh axis.
  """
  settings.get(config.setting)
  checks.at_least(config, "seed", 0)
  checks.at_least(config, "checkpoint_every", 1)
  if not checks.is_number(config.max_loss) or config.max_loss <= 0:
    checks.fail("max_loss", "a number above 0", config.max_loss)
  checks.at_least(config, "evaluation_rows", 1)
  for name, value in config.streams.items():
    if value is not None and value < 0:
      checks.fail(f"streams.{name}", "None or an integer of at least 0", value)
  _check_data(config)
  _check_model(config)
  shards = mesh_shape["data"] * mesh_shape["fsdp"]
  _check_training(config, "pretrain", shards)
  _check_training(config, "oracle", shards)
  _check_training(config, "distill", shards)
  for name, other in (
    ("data_filtering", "pretrain"),
    ("unlearn_and_distill", "distill"),
  ):
    _check_training(config, name, shards, changed(config[other], config[name]))
  _check_unlearn(config, shards)
  _check_undo(config)
  _check_distill(config)
  if config.routing.methods:
    _check_routing(config, shards)
  _check_attack(config, shards, mesh_shape["replica"])
  budgets = config.report.budgets
  if not budgets or any(not isinstance(b, int) or b < 1 for b in budgets):
    checks.fail("report.budgets", "at least one number of updates, all >= 1", budgets)


def claim_workdir(workdir: files.Path, config: Any) -> None:
  """Makes the run directory the config's own, or checks that it is.

  Raises:
    ConfigError: if the path is no directory, cannot be written, or belongs to a
      run of another config; names the fields that differ.
  """
  workdirs.claim(workdir, config, free=FREE_FIELDS, effective=_effective)


def _check_data(config):
  data = config.data
  checks.at_least(config, "data.sequence_length", 2)
  if data.packing not in packing.MODES:
    checks.fail("data.packing", f"one of {', '.join(packing.MODES)}", data.packing)
  tokenizer = tokenizers.make(data.tokenizer)
  setting = settings.get(config.setting)
  setting.check(config)
  if config.model.vocab_size < tokenizer.vocab_size:
    checks.fail(
      "model.vocab_size",
      f"at least {tokenizer.vocab_size}, the size of the tokenizer {data.tokenizer!r}",
      config.model.vocab_size,
    )
  _check_mixtures(config, setting.splits(data))
  _check_domains(config, setting.forget_splits(data))


def _check_mixtures(config, splits):
  for use in MIXTURES:
    mixture = config.mixtures[use]
    for split, weight in mixture.items():
      name = f"mixtures.{use}.{split}"
      if not checks.is_number(weight) or weight < 0:
        checks.fail(name, "a weight of at least 0", weight)
      if weight and split not in splits:
        checks.fail(name, f"0, since the data's splits are {', '.join(splits)}", weight)
    if not any(mixture.values()):
      checks.fail(f"mixtures.{use}", "a weight above 0", dict(mixture))
  for parts in (PRETRAIN, FILTERED, PAIRED, DISTILL, ATTACK):
    length(config, parts)


def _check_domains(config, forget):
  """Checks that no stage reads what it must not: forget data as retain, say."""
  read = {
    use: [split for split, weight in config.mixtures[use].items() if weight]
    for use in MIXTURES
  }
  names = ", ".join(forget)
  for use in ("data_filtering", "unlearn_retain"):
    for split in set(read[use]) & set(forget):
      value = config.mixtures[use][split]
      checks.fail(f"mixtures.{use}.{split}", "0, since it is to be forgotten", value)
  for split in sorted(set(read["unlearn_forget"]) - set(forget)):
    value = config.mixtures.unlearn_forget[split]
    expected = f"0, since only {names} is to be forgotten"
    checks.fail(f"mixtures.unlearn_forget.{split}", expected, value)
  if not set(read["attack"]) & set(forget):
    expected = f"weight on {names}: the attack relearns what was forgotten"
    checks.fail("mixtures.attack", expected, dict(config.mixtures.attack))


def _check_model(config):
  try:
    ModelConfig(**config.model)
  except ConfigError as error:
    raise ConfigError(f"config.{error}") from None


def _check_training(config, name, shards, training=None):
  training = checks.field(config, name) if training is None else training
  for count in ("batch_size", "num_microbatches"):
    if training[count] < 1:
      checks.fail(f"{name}.{count}", "an integer of at least 1", training[count])
  if training.batch_size % training.num_microbatches:
    checks.fail(
      f"{name}.num_microbatches",
      f"a divisor of {name}.batch_size={training.batch_size}",
      training.num_microbatches,
    )
  if (training.batch_size // training.num_microbatches) % shards:
    checks.fail(
      f"{name}.batch_size",
      f"a multiple of num_microbatches x {shards} (devices along data x fsdp)",
      training.batch_size,
    )
  try:
    OptimizerConfig(**{field: training[field] for field in OPTIMIZER_FIELDS})
  except ConfigError as error:
    raise ConfigError(f"config.{name}: {error}") from None
  if not checks.is_number(training.rho) or training.rho < 0:
    checks.fail(f"{name}.rho", "a number of at least 0", training.rho)
  _check_trainable(config, f"{name}.trainable", training.trainable)


def _check_trainable(config, name, pairs):
  """Checks pairs of a path regex and layers against the model's parameters."""
  if not pairs:
    return
  for pair in pairs:
    if isinstance(pair, str) or len(pair) != 2 or not isinstance(pair[1], Sequence):
      checks.fail(name, "pairs (path regex, layers), as in ((REGEX,(0,1)),)", pair)
  init = Decoder(ModelConfig(**config.model)).init
  shapes = jax.eval_shape(init, jax.random.key(0))
  try:
    trees.mask_from_rules(shapes, trainable_rules(pairs))
  except (ValueError, re.error) as error:
    raise ConfigError(
      f"config.{name}: {error}; set it by --config.{name}=VALUE or in the config file"
    ) from None


def _check_unlearn(config, shards):
  methods = config.unlearn.methods
  if not methods or len(set(methods)) != len(methods):
    checks.fail("unlearn.methods", "at least one method, none twice", methods)
  blocks = [name for name in config.unlearn if name != "methods"]
  for method in methods:
    if method not in blocks:
      checks.fail("unlearn.methods", f"methods among {', '.join(blocks)}", method)
    block = config.unlearn[method]
    objective = block.get("objective", method)
    if objective not in UNLEARNING:
      expected = f"one of {', '.join(UNLEARNING)}"
      checks.fail(f"unlearn.{method}.objective", expected, objective)
    _check_training(config, f"unlearn.{method}", shards)
    objectives.check(objective, dict(block.options))
    if objective == "rmu":
      _check_rmu(config, method, block)
    _check_values(config, f"unlearn.{method}.options", objective, block.options)
  if not {*methods, "oracle_matching" * config.undo.oracle_matching} & {
    *UNLEARNED_ONLY
  }:
    expected = (
      f"one of {', '.join(UNLEARNED_ONLY)} among them, the report's robustness 0"
    )
    checks.fail("unlearn.methods", expected, methods)


def _check_rmu(config, method, block):
  layers = block.options.layers
  if not layers or min(layers) < 0 or max(layers) >= config.model.num_layers:
    checks.fail(
      f"unlearn.{method}.options.layers",
      f"layers in [0, {config.model.num_layers})",
      layers,
    )
  if block.trainable:
    expected = "(), since RMU trains the down-projections of options.layers"
    checks.fail(f"unlearn.{method}.trainable", expected, block.trainable)


def _check_values(config, name, objective, options):
  """Checks the values of an objective's options by making it."""
  try:
    objectives.make(objective, Decoder(ModelConfig(**config.model)).apply, **options)
  except ConfigError as error:
    raise ConfigError(f"config.{name}: {error}") from None


def _check_distill(config):
  options = config.distill.get("options", {})
  objectives.check("forward_kl", dict(options))
  _check_values(config, "distill.options", "forward_kl", options)
  if config.undo.unlearn_and_distill and options.get("kl_weight", 1.0) == 0:
    checks.fail(
      "distill.options.kl_weight",
      "above 0 where undo.unlearn_and_distill is set, whose random student would "
      "never learn its embedding",
      options.kl_weight,
    )
  checks.at_least(config, "distill.stop.evaluate_every", 1)
  checks.unit("distill.stop.tolerance", config.distill.stop.tolerance)
  scores = config.distill.stop.scores
  if any(not isinstance(name, str) for name in scores):
    checks.fail("distill.stop.scores", "names of scores, as in ('retain',)", scores)


def _check_undo(config):
  undo = config.undo
  if undo.teacher not in config.unlearn.methods:
    checks.fail(
      "undo.teacher", f"one of unlearn.methods {config.unlearn.methods}", undo.teacher
    )
  for index, alpha in enumerate(undo.alphas):
    checks.unit(f"undo.alphas[{index}]", alpha)
  names = [undo_name(alpha) for alpha in undo.alphas]
  if len(set(names)) != len(names):
    checks.fail("undo.alphas", "values that differ", undo.alphas)
  checks.unit("undo.beta", undo.beta)


def _check_routing(config, shards):
  routing = config.routing
  methods = routing.methods
  if not set(methods) <= set(ROUTED) or len(set(methods)) != len(methods):
    checks.fail("routing.methods", f"some of {', '.join(ROUTED)}, none twice", methods)
  for name, other in (("pretrain", "pretrain"), ("distill", "distill")):
    training = changed(config[other], routing[name])
    _check_training(config, f"routing.{name}", shards, training)
  if not checks.is_number(routing.labelled) or not 0 < routing.labelled <= 1:
    checks.fail("routing.labelled", "a number in (0, 1]", routing.labelled)
  if not checks.is_number(routing.old_target) or routing.old_target > 1:
    checks.fail("routing.old_target", "a number of at most 1", routing.old_target)
  weight = routing.coherence_weight
  if not checks.is_number(weight) or weight < 0:
    checks.fail("routing.coherence_weight", "a number of at least 0", weight)
  try:
    model = ModelConfig(**config.model)
    expansion.reserve(model, mlp_units=routing.mlp_units, kv_heads=routing.kv_heads)
  except ConfigError as error:
    raise ConfigError(
      f"config.routing: {error}; set it by --config.routing.mlp_units=VALUE and "
      "--config.routing.kv_heads=VALUE"
    ) from None
  _check_routed_students(config)
  _check_routed_data(config, shards)


def _check_routed_students(config):
  """Checks which models UNDO and routed distillation are to make, by their alphas."""
  routing = config.routing
  known = [name for name in routing.methods if not name.endswith(DISTILLATION)]
  if not set(routing.teachers) <= set(known):
    expected = f"some of routing.methods that are pretrained: {', '.join(known)}"
    checks.fail("routing.teachers", expected, routing.teachers)
  needed = {
    "alphas": len(known) < len(routing.methods),
    "undo_alphas": bool(routing.teachers),
  }
  for name, is_needed in needed.items():
    alphas = routing[name]
    for index, alpha in enumerate(alphas):
      checks.unit(f"routing.{name}[{index}]", alpha)
    if len({f"{alpha:g}" for alpha in alphas}) != len(alphas):
      checks.fail(f"routing.{name}", "values that differ", alphas)
    if is_needed and not alphas:
      checks.fail(f"routing.{name}", "at least one noise strength", alphas)


def _check_routed_data(config, shards):
  """Checks that there is forget data to route, and the rows of SGTM's parts."""
  forget = settings.get(config.setting).forget_splits(config.data)
  for stage in routed_plan(config):
    if stage.kind != "train" or not stage.name.endswith(WHOLE):
      continue
    parts = stage.settings["parts"]
    is_distilled = stage.settings["objective"].endswith("forward_kl")
    use = "distill" if is_distilled else "pretrain"
    found = {split.partition(":")[0] for weights in parts.values() for split in weights}
    if not found & set(forget) or not found - set(forget):
      checks.fail(
        f"mixtures.{use}",
        f"weight on {', '.join(forget)}, which {stage.name} routes, and on others",
        dict(config.mixtures[use]),
      )
    microbatches = stage.settings["num_microbatches"]
    rows = part_rows(stage.settings, stage.settings["batch_size"])
    for part, size in rows.items():
      if size < 1 or size % (microbatches * shards):
        checks.fail(
          "pretrain.batch_size",
          f"a number of which SGTM's part {part!r} gets a multiple of num_microbatches "
          f"x {shards} (devices along data x fsdp) rows, not {size}",
          stage.settings["batch_size"],
        )


def _check_attack(config, shards, replicas):
  attack = config.attack
  for name in ("num_steps", "evaluate_every", "evaluations_per_call", "batch_size"):
    checks.at_least(config, f"attack.{name}", 1)
  if attack.num_steps % attack.evaluate_every:
    checks.fail(
      "attack.evaluate_every",
      f"a divisor of attack.num_steps={attack.num_steps}",
      attack.evaluate_every,
    )
  checks.at_least(config, "attack.warmup_steps", 0)
  if attack.warmup_steps >= attack.num_steps:
    expected = f"less than attack.num_steps={attack.num_steps}"
    checks.fail("attack.warmup_steps", expected, attack.warmup_steps)
  rates = attack.learning_rates
  if not rates or any(not checks.is_number(rate) or rate <= 0 for rate in rates):
    checks.fail("attack.learning_rates", "at least one number, all above 0", rates)
  if len(rates) % replicas:
    checks.fail(
      "attack.learning_rates",
      f"a number of rates that divides over the {replicas} devices of mesh.replica",
      f"{len(rates)} rates",
    )
  at_once = config.replicas_at_once
  if at_once is not None and (
    at_once < 1 or len(rates) % at_once or at_once % replicas
  ):
    checks.fail(
      "replicas_at_once",
      f"None or a divisor of the {len(rates)} attack.learning_rates that divides over "
      f"the {replicas} devices of mesh.replica",
      at_once,
    )
  if attack.batch_size % shards:
    checks.fail(
      "attack.batch_size",
      f"a multiple of {shards} (devices along data x fsdp)",
      attack.batch_size,
    )
  if attack.weight_decay < 0 or attack.clip_norm <= 0:
    checks.fail("attack", "weight_decay >= 0 and clip_norm > 0", dict(attack))
  for name in ("alpha", "beta"):
    checks.unit(f"attack.perturb.{name}", attack.perturb[name])
  _check_trainable(config, "attack.trainable", attack.trainable)
  if attack.trainable and attack.lora.rank:
    expected = "() where attack.lora.rank is above 0: adapters are trained instead"
    checks.fail("attack.trainable", expected, attack.trainable)
  _check_lora(config)


def _check_lora(config):
  adapters = config.attack.lora
  checks.at_least(config, "attack.lora.rank", 0)
  if not adapters.rank:
    return  # Off: the rest is not read.
  if not checks.is_number(adapters.alpha) or adapters.alpha <= 0:
    checks.fail("attack.lora.alpha", "a number above 0", adapters.alpha)
  init = Decoder(ModelConfig(**config.model)).init
  draw = functools.partial(lora.init, rank=adapters.rank, targets=adapters.targets)
  try:
    jax.eval_shape(lambda key: draw(init(key), key), jax.random.key(0))
  except ValueError as error:
    raise ConfigError(
      f"config.attack.lora: {error}; set it by --config.attack.lora.rank=VALUE and "
      "--config.attack.lora.targets=VALUE"
    ) from None


def _effective(config: dict[str, Any]) -> dict[str, Any]:
  """Returns the config without the blocks that are off, or from before them."""
  config, attack = dict(config), dict(config["attack"])
  if not attack.get("lora", {"rank": 0})["rank"]:
    attack.pop("lora", None)
  if not config.get("routing", {"methods": ()})["methods"]:
    config.pop("routing", None)
  return config | {"attack": attack}
