"""Checks across the fields of a config, before any compute.

The records in plan/config.py check each field by itself. This file checks whether what
entries name exists, whether mixtures read what they may, whether rows divide over
devices, and whether options fit the model.
"""

from collections.abc import Mapping
import re
from typing import NoReturn

from undo_jax import attacks, interpolation, objectives, tasks
from undo_jax.data import labels, packing, tokenizers
from undo_jax.models import expansion
from undo_jax.models.decoder import Decoder
from undo_jax.models.decoder import shapes as shapes_of
from undo_jax.objectives.method import Method
from undo_jax.plan import edit_checks, prompts, selection_checks, translation
from undo_jax.plan.attack_entries import AttackEntry, EditEntry
from undo_jax.plan.config import NAME, Recipe, RunConfig
from undo_jax.plan.noise import Noise, Saliency
from undo_jax.plan.stages import BATCH, TrainStage
from undo_jax.plan.trained import TrainedShare
from undo_jax.training import optimizers, stop_rules, writers
from undo_jax.training.optimizers import trainable_rules
from undo_jax.utils import records, trees
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError


def check(config: RunConfig, mesh_shape: Mapping[str, int]) -> None:
  """Raise ConfigError at the first thing in a config that cannot work.

  Args:
    config: see plan.config.parse.
    mesh_shape: devices along each mesh axis.
  """
  _check_data(config)
  shards = mesh_shape["data"] * mesh_shape["fsdp"]
  for name, recipe in config.models.items():
    if recipe.checkpoint is None:
      _within(f"models.{recipe.family or name}", _check_options, recipe)
  translation.ordered(config.models)
  for name, recipe in config.models.items():
    if recipe.checkpoint is None:
      entry = recipe.family or name
      _within(f"models.{entry}", _check_recipe, config, recipe, shards)
  for name, entry in config.attacks.items():
    if isinstance(entry, EditEntry):
      _within(f"attacks.{name}", edit_checks.check, config, entry, shards)
    else:
      _within(f"attacks.{name}", _check_attack, config, entry, shards, mesh_shape)
  _check_rows(config, shards)
  for name in config.writers:
    _within("writers", writers.check, name)
  _check_report(config)


def _check_report(config: RunConfig) -> None:
  """Check that the worst case is over attacks that exist, at their steps."""
  report = config.report
  for name in report.worst_over:
    if name not in config.attacks:
      fail("report.worst_over", f"some of {', '.join(config.attacks)}", name)
    if _is_reading(config.attacks[name]):
      fail("report.worst_over", "attacks, no diagnostics", name)
  named = [config.attacks[name] for name in report.worst_over or config.attacks]
  counted = [entry for entry in named if not _is_reading(entry)]
  trained = [entry for entry in counted if isinstance(entry, AttackEntry)]
  steps = {
    step
    for entry in trained
    for step in range(entry.evaluate_every, entry.num_steps + 1, entry.evaluate_every)
  }
  unread = [budget for budget in report.budgets if budget not in steps]
  if trained and unread:
    evaluated = "; ".join(
      f"every {e.evaluate_every} up to {e.num_steps}" for e in trained
    )
    expected = f"updates after which an attack is evaluated ({evaluated})"
    fail("report.budgets", expected, unread[0])


def _is_reading(entry: AttackEntry | EditEntry) -> bool:
  """Whether an entry is a diagnostic, which no worst case is over."""
  if isinstance(entry, EditEntry):
    return attacks.EDITS.get(entry.edit).is_reading
  return attacks.REGISTRY.get(entry.adversary).is_reading


def fail(field: str, expected: str, got: object) -> NoReturn:
  """Raise the ConfigError of a field, named by its path in the config."""
  raise records.fixable(FieldError(f"config.{field}", expected, got))


def _within(path: str, fn, *args) -> None:
  """Call a check of an entry; its errors name the entry."""
  try:
    fn(*args)
  except FieldError as error:
    if error.field.startswith("config."):
      raise
    raise records.fixable(error.below(f"config.{path}")) from None
  except ConfigError as error:
    if str(error).startswith("config."):
      raise
    raise ConfigError(f"config.{path}: {error}") from None


def _check_data(config: RunConfig) -> None:
  data = config.data
  task = _named("task", tasks.get, config.task)
  length = data.get("sequence_length")
  if not isinstance(length, int) or not 2 <= length < 2**31:
    fail("data.sequence_length", "an integer of at least 2", length)
  if data.get("packing") not in packing.MODES:
    expected = f"one of {', '.join(packing.MODES)}"
    fail("data.packing", expected, data.get("packing"))
  if not isinstance(data.get("tokenizer"), str):
    fail("data.tokenizer", "a name, see data/tokenizers", data.get("tokenizer"))
  tokenizer = tokenizers.make(data["tokenizer"])
  task.check(data)
  if config.model.vocab_size < tokenizer.vocab_size:
    fail(
      "model.vocab_size",
      f"at least {tokenizer.vocab_size}, the size of the tokenizer "
      f"{data['tokenizer']!r}",
      config.model.vocab_size,
    )
  splits = task.splits(data)
  for name, mixture in config.mixtures.items():
    for split, weight in mixture.items():
      field = f"mixtures.{name}.{split}"
      if weight < 0:
        fail(field, "a weight of at least 0", weight)
      if weight and ":" not in split and split not in splits:
        fail(field, f"0, since the data's splits are {', '.join(splits)}", weight)
  selection_checks.check(config)


def _named(field: str, get, name: str):
  try:
    return get(name)
  except ConfigError as error:
    raise ConfigError(f"config.{field}: {error}; set it in the config file") from None


def _check_options(recipe: Recipe) -> None:
  """Check that an objective and its options exist."""
  method = objectives.REGISTRY.get(recipe.objective)
  try:
    objectives.check(recipe.objective, recipe.options | _routing(method))
  except FieldError as error:
    raise error.below("options") from None


def _check_recipe(config: RunConfig, recipe: Recipe, shards: int) -> None:
  _check_rows_divide(recipe, shards)
  _check_method(config, recipe)
  _check_trainable(config, "optimizer.trainable", recipe.optimizer.trainable)
  _check_noise(config, recipe.noise)
  _check_saliency(config, "noise.saliency", recipe.noise.saliency, shards)
  _check_saliency(config, "trained", recipe.trained, shards)
  _check_predictions(config, recipe)
  optimizers.RULES.get(recipe.optimizer.name)
  again, num_steps = recipe.noise.again, recipe.optimizer.num_steps
  if again is not None and again.every * again.times >= num_steps:
    expected = f"times again_times below optimizer.num_steps={num_steps}"
    raise FieldError("noise.again_every", expected, again.every)
  for role in translation.roles(recipe):
    if recipe.frozen.get(role) is None:
      expected = f"the model that {recipe.objective} reads as {role}"
      raise FieldError(f"frozen.{role}", expected, None)
  sorts = recipe.labels.sorts
  if sorts is not None and not NAME.fullmatch(sorts):
    raise FieldError("labels.sorts", "None or a model's name", sorts)
  _check_mixtures(config, recipe)
  _check_stop(config, recipe)


def _routing(method: Method) -> dict[str, None]:
  """Return the option that a run sets itself if a method routes."""
  return {"routing": None} if method.sources != "none" else {}


def _check_rows_divide(recipe: Recipe, shards: int) -> None:
  if (recipe.batch_size // recipe.num_microbatches) % shards:
    raise FieldError(
      "batch_size",
      f"a multiple of num_microbatches x {shards} (devices along data x fsdp)",
      recipe.batch_size,
    )


def _check_method(config: RunConfig, recipe: Recipe) -> None:
  """Check an objective's options against the model, and by making it."""
  model = config.model
  method = objectives.method(recipe.objective, recipe.options)
  if method.gradient_masks is not None or method.joins is not None:
    other = {"smoothing.kind": recipe.smoothing.kind, "trained.by": recipe.trained.by}
    for field, value in ({"rho": recipe.rho or None} | other).items():
      if value is not None:
        off = 0 if field == "rho" else None
        expected = f"{off}, since {recipe.objective} masks its gradients by source"
        raise FieldError(field, expected, value)
  if method.trainable is not None and recipe.optimizer.trainable:
    expected = f"(), since {recipe.objective} says itself what is trained"
    raise FieldError("optimizer.trainable", expected, recipe.optimizer.trainable)
  if method.check is not None:
    try:
      method.check(model, recipe.options, is_random=recipe.origin is None)
    except FieldError as error:
      raise error.below("options") from None
  options = {
    k: tuple(v) if isinstance(v, list) else v
    for k, v in prompts.with_prompt(config, recipe).items()
  }
  routes = method.sources != "none"
  if routes != recipe.reserve.is_on:
    expected = (
      f"mlp_units or kv_heads above 0, since {recipe.objective} routes"
      if routes
      else f"no units, since {recipe.objective} does not route"
    )
    raise FieldError("reserve", expected, records.to_json(recipe.reserve))
  if routes:
    units = {"mlp_units": recipe.reserve.mlp_units, "kv_heads": recipe.reserve.kv_heads}
    try:
      expansion.reserve(model, **units)
    except ConfigError as error:
      raise ConfigError(f"reserve: {error}") from None
    reserved = records.to_json(recipe.reserve)
    options["routing"] = objectives.routing(model, **reserved)
  try:
    objectives.make(recipe.objective, Decoder(model).apply, **options)
  except FieldError as error:
    raise error.below("options") from None
  except (ConfigError, TypeError, ValueError) as error:
    raise ConfigError(f"options: {error}") from None


def _check_trainable(config: RunConfig, field: str, pairs) -> None:
  """Check pairs of a path regex and layers against the model's parameters."""
  if not pairs:
    return
  shapes = shapes_of(config.model)
  try:
    trees.mask_from_rules(shapes, trainable_rules(pairs))
  except (ValueError, re.error) as error:
    raise FieldError(field, f"paths and layers of the model ({error})", pairs) from None


def _check_noise(config: RunConfig, noise: Noise) -> None:
  """Check the alphas by path and layer against the model's parameters."""
  try:
    interpolation.alphas(shapes_of(config.model), noise.alpha, noise.rules)
  except (ValueError, OverflowError) as error:
    expected = f"paths and layers of the model ({error})"
    raise FieldError("noise.rules", expected, noise.rules) from None


def _check_saliency(
  config: RunConfig, where: str, saliency: Saliency | TrainedShare, shards: int
) -> None:
  """Check what the squared gradients that choose weights are read from."""
  if not saliency.reads_gradients:
    return
  if saliency.batch_size % shards:
    expected = f"a multiple of {shards} (devices along data x fsdp)"
    raise FieldError(f"{where}.batch_size", expected, saliency.batch_size)
  names = tasks.get(config.task).forget_splits(config.data)
  for part, mixture in saliency.mixtures.items():
    weights = _mixture(config, f"{where}.mixtures.{part}", mixture)
    other = sorted(n for n in weights if labels.split_of(n) not in names)
    if part == "forget":
      selection_checks.check_forget(config, mixture)
    if part == "forget" and other:
      expected = f"0, since what is to be forgotten is {', '.join(names)}"
      fail(f"mixtures.{mixture}.{other[0]}", expected, weights[other[0]])
  translation.selection_of(config, saliency.mixtures.values())
  translation.mixture_length(config, saliency.mixtures.values())


def _check_predictions(config: RunConfig, recipe: Recipe) -> None:
  """Check that an objective can read predictions that are kept, under its options."""
  if not recipe.teacher_predictions.keep:
    return
  method = objectives.REGISTRY.get(recipe.objective)
  if method.kept is None:
    expected = f"False, since {recipe.objective} is no distillation of outputs alone"
    raise FieldError("teacher_predictions.keep", expected, True)
  try:
    method.kept(config.model, recipe.options)
  except FieldError as error:
    raise error.below("options") from None


def _check_mixtures(config: RunConfig, recipe: Recipe) -> None:
  """Check that an entry reads mixtures that exist, and no forget data as retain."""
  forget = tasks.get(config.task).forget_splits(config.data)
  method = objectives.method(recipe.objective, recipe.options)
  parts = {
    part: _mixture(config, f"mixture.{part}", name)
    for part, name in recipe.mixture.items()
  }
  expected = {*method.trains} if method.sources != "parts" else {BATCH}
  if set(parts) != expected:
    raise FieldError(
      "mixture", f"a mixture for {', '.join(sorted(expected))}", {*parts}
    )
  translation.mixture_length(config, recipe.mixture.values())
  selection_checks.check_recipe(config, recipe, method)
  selected = translation.selection_of(config, recipe.mixture.values())
  recipe.folds.check(recipe.mixture, is_selected=selected is not None)
  names = ", ".join(forget)
  is_filtered = recipe.labels.sorts is not None and not recipe.labels.drop_forget
  for part, weights in parts.items():
    mixture = f"mixtures.{recipe.mixture[part]}"
    for split, weight in selection_checks.by_label(weights).items():
      is_forget = labels.split_of(split) in forget
      if is_forget and (is_filtered or (method.is_unlearning and part == "retain")):
        fail(f"{mixture}.{split}", "0, since it is to be forgotten", weight)
      if not is_forget and method.is_unlearning and part == "forget":
        expected = f"0, since what is to be forgotten is {names}"
        fail(f"{mixture}.{split}", expected, weight)
  if method.sources != "none":
    weights = parts[BATCH]
    if not {*weights} & {*forget} or not {*weights} - {*forget}:
      expected = f"weight on {names}, which is routed, and on others"
      fail(f"mixtures.{recipe.mixture[BATCH]}", expected, weights)


def _mixture(config: RunConfig, field: str, name: str) -> dict[str, float]:
  """Return the splits of a mixture with a weight."""
  if name not in config.mixtures:
    raise FieldError(field, f"one of {', '.join(config.mixtures)}", name)
  weights = {s: weight for s, weight in config.mixtures[name].items() if weight}
  if not weights:
    fail(f"mixtures.{name}", "a weight above 0", config.mixtures[name])
  return weights


def _check_stop(config: RunConfig, recipe: Recipe) -> None:
  if recipe.stop.rule is None:
    if recipe.optimizer.decay_on_recovery:
      expected = "a rule that begins the decay, with optimizer.decay_on_recovery"
      raise FieldError("stop.rule", expected, None)
    return
  for name, off in (("average_begin", None), ("displacement", 1)):
    if getattr(recipe.optimizer, name) != off:
      expected = f"None, with optimizer.{name}, which counts on all updates"
      raise FieldError("stop.rule", expected, recipe.stop.rule)
  if tasks.get(config.task).validation is None:
    expected = f"None, since the task {config.task} has no validation items to stop by"
    raise FieldError("stop.rule", expected, recipe.stop.rule)
  rule = stop_rules.RULES.get(recipe.stop.rule)
  try:
    rule.check(recipe.stop.options)
  except FieldError as error:
    raise error.below("stop") from None
  if rule.reads_teacher and "teacher" not in translation.roles(recipe):
    expected = f"None, since {recipe.objective} has no teacher to recover"
    raise FieldError("stop.rule", expected, recipe.stop.rule)


def _check_attack(
  config: RunConfig, entry: AttackEntry, shards: int, mesh_shape: Mapping[str, int]
) -> None:
  _check_population(config, entry, mesh_shape["replica"])
  if entry.batch_size % shards:
    expected = f"a multiple of {shards} (devices along data x fsdp)"
    raise FieldError("batch_size", expected, entry.batch_size)
  _check_trainable(config, "trainable", entry.trainable)
  _check_noise(config, entry.noise)
  adversary = attacks.REGISTRY.get(entry.adversary)
  adversary.check(config.model, entry.options)
  if entry.trainable and (adversary.adapters or not adversary.trains_weights):
    what = "adapters" if adversary.adapters else "no weights"
    expected = f"() where {entry.adversary} trains {what}"
    raise FieldError("trainable", expected, entry.trainable)
  optimizers.RULES.get(entry.optimizer)
  if entry.scores == "validation" and tasks.get(config.task).validation is None:
    expected = f"test, since the task {config.task} has no validation items"
    raise FieldError("scores", expected, entry.scores)
  for model in entry.models:
    if model not in config.models:
      raise FieldError("models", f"some of {', '.join(config.models)}", model)
  weights = _mixture(config, "mixture", entry.mixture)
  forget = tasks.get(config.task).forget_splits(config.data)
  if not entry.is_benign and not {*weights} & {*forget}:
    expected = f"weight on {', '.join(forget)}: the attack relearns what was forgotten"
    fail(f"mixtures.{entry.mixture}", expected, weights)
  read = [entry.mixture]
  if entry.first_mixture is not None:
    _mixture(config, "first_mixture", entry.first_mixture)
    read.append(entry.first_mixture)
  translation.mixture_length(config, read)


def _check_population(config: RunConfig, entry: AttackEntry, replicas: int) -> None:
  count, at_once = len(entry.learning_rates), config.replicas_at_once
  if count % replicas:
    raise FieldError(
      "learning_rates",
      f"a number of rates that divides over the {replicas} devices of mesh.replica",
      f"{count} rates",
    )
  if at_once is not None and (count % at_once or at_once % replicas):
    fail(
      "replicas_at_once",
      f"None or a divisor of the {count} learning rates of an attack that divides over "
      f"the {replicas} devices of mesh.replica",
      at_once,
    )


def _check_rows(config: RunConfig, shards: int) -> None:
  """Check the rows of the parts that batches are divided into by labels."""
  plan = translation.plan(config, config.seeds[0])
  selection_checks.check_installed(plan)
  for stage in plan:
    if not isinstance(stage, TrainStage):
      continue
    for part, size in stage.rows.items():
      if size < 1 or size % (stage.num_microbatches * shards):
        name = stage.name.removesuffix(translation.WHOLE)
        entry = config.models[name].family or name
        fail(
          f"models.{entry}.batch_size",
          f"a number of which the part {part!r} gets a multiple of num_microbatches x "
          f"{shards} (devices along data x fsdp) rows, not {size}",
          stage.batch_size,
        )
