"""Checks of an attack that trains against the rest of a config, before any compute."""

from collections.abc import Mapping

from undo_jax import attacks, tasks
from undo_jax.plan import mixtures, parameter_checks
from undo_jax.plan.attack_entries import AttackEntry
from undo_jax.plan.config import RunConfig
from undo_jax.training import optimizers
from undo_jax.utils.checks import fail
from undo_jax.utils.records import FieldError


def check(
  config: RunConfig, entry: AttackEntry, shards: int, mesh_shape: Mapping[str, int]
) -> None:
  """Raise ConfigError at the first thing in an entry that cannot work.

  Args:
    config: see plan.config.parse.
    entry: one of its attacks.
    shards: devices that the rows of a batch divide over.
    mesh_shape: devices along each mesh axis.
  """
  _check_population(config, entry, mesh_shape["replica"])
  if entry.batch_size % shards:
    expected = f"a multiple of {shards} (devices along data x fsdp)"
    raise FieldError("batch_size", expected, entry.batch_size)
  parameter_checks.trainable(config, "trainable", entry.trainable)
  parameter_checks.noise(config, entry.noise)
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
  weights = mixtures.checked(config, "mixture", entry.mixture)
  forget = tasks.get(config.task).forget_splits(config.data)
  if not entry.is_benign and not {*weights} & {*forget}:
    expected = f"weight on {', '.join(forget)}: the attack relearns what was forgotten"
    fail(f"mixtures.{entry.mixture}", expected, weights)
  read = [entry.mixture]
  if entry.first_mixture is not None:
    mixtures.checked(config, "first_mixture", entry.first_mixture)
    read.append(entry.first_mixture)
  mixtures.length(config, read)


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
