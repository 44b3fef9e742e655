"""Checks across the fields of a config, before any compute.

The records in plan/config.py check each field by itself. This file and those that it
calls, one for each kind of entry, check whether what entries name exists, whether
mixtures read what they may, whether rows divide over devices, and whether options fit
the model.
"""

from collections.abc import Mapping

from undo_jax import attacks, tasks
from undo_jax.data import packing, tokenizers
from undo_jax.plan import (
  attack_checks,
  dependencies,
  edit_checks,
  recipe_checks,
  selection_checks,
  translation,
)
from undo_jax.plan.attack_entries import AttackEntry, EditEntry
from undo_jax.plan.config import RunConfig
from undo_jax.plan.stages import TrainStage
from undo_jax.training import writers
from undo_jax.utils import records
from undo_jax.utils.checks import fail
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
      _within(f"models.{recipe.family or name}", recipe_checks.check_options, recipe)
  dependencies.ordered(config.models)
  for name, recipe in config.models.items():
    if recipe.checkpoint is None:
      entry = recipe.family or name
      _within(f"models.{entry}", recipe_checks.check, config, recipe, shards)
  for name, entry in config.attacks.items():
    if isinstance(entry, EditEntry):
      _within(f"attacks.{name}", edit_checks.check, config, entry, shards)
    else:
      _within(f"attacks.{name}", attack_checks.check, config, entry, shards, mesh_shape)
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
