"""Checks of an entry of models against the rest of a config, before any compute."""

from undo_jax import objectives, tasks
from undo_jax.data import labels
from undo_jax.models import expansion
from undo_jax.models.decoder import Decoder
from undo_jax.objectives.method import Method
from undo_jax.plan import (
  dependencies,
  mixtures,
  parameter_checks,
  prompts,
  selection_checks,
)
from undo_jax.plan.config import NAME, Recipe, RunConfig
from undo_jax.plan.noise import Saliency
from undo_jax.plan.stages import BATCH
from undo_jax.plan.trained import TrainedShare
from undo_jax.training import optimizers, stop_rules
from undo_jax.utils import records
from undo_jax.utils.checks import fail
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError


def check_options(recipe: Recipe) -> None:
  """Check that an objective and its options exist."""
  method = objectives.REGISTRY.get(recipe.objective)
  try:
    objectives.check(recipe.objective, recipe.options | _routing(method))
  except FieldError as error:
    raise error.below("options") from None


def check(config: RunConfig, recipe: Recipe, shards: int) -> None:
  """Raise ConfigError at the first thing in an entry that cannot work.

  Args:
    config: see plan.config.parse.
    recipe: one of its models, whose options have been checked.
    shards: devices that the rows of a batch divide over.
  """
  _check_rows_divide(recipe, shards)
  _check_method(config, recipe)
  parameter_checks.trainable(config, "optimizer.trainable", recipe.optimizer.trainable)
  parameter_checks.noise(config, recipe.noise)
  _check_saliency(config, "noise.saliency", recipe.noise.saliency, shards)
  _check_saliency(config, "trained", recipe.trained, shards)
  _check_predictions(config, recipe)
  optimizers.RULES.get(recipe.optimizer.name)
  again, num_steps = recipe.noise.again, recipe.optimizer.num_steps
  if again is not None and again.every * again.times >= num_steps:
    expected = f"times again_times below optimizer.num_steps={num_steps}"
    raise FieldError("noise.again_every", expected, again.every)
  for role in dependencies.roles(recipe):
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
    weights = mixtures.checked(config, f"{where}.mixtures.{part}", mixture)
    other = sorted(n for n in weights if labels.split_of(n) not in names)
    if part == "forget":
      selection_checks.check_forget(config, mixture)
    if part == "forget" and other:
      expected = f"0, since what is to be forgotten is {', '.join(names)}"
      fail(f"mixtures.{mixture}.{other[0]}", expected, weights[other[0]])
  mixtures.selection(config, saliency.mixtures.values())
  mixtures.length(config, saliency.mixtures.values())


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
    part: mixtures.checked(config, f"mixture.{part}", name)
    for part, name in recipe.mixture.items()
  }
  expected = {*method.trains} if method.sources != "parts" else {BATCH}
  if set(parts) != expected:
    raise FieldError(
      "mixture", f"a mixture for {', '.join(sorted(expected))}", {*parts}
    )
  mixtures.length(config, recipe.mixture.values())
  selection_checks.check_recipe(config, recipe, method)
  selected = mixtures.selection(config, recipe.mixture.values())
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
  if rule.reads_teacher and "teacher" not in dependencies.roles(recipe):
    expected = f"None, since {recipe.objective} has no teacher to recover"
    raise FieldError("stop.rule", expected, recipe.stop.rule)
