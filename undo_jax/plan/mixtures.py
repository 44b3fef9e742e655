"""The mixtures of a config: which splits they are drawn from, and of what length."""

from collections.abc import Iterable

from undo_jax import tasks
from undo_jax.data import labels
from undo_jax.plan.config import RunConfig
from undo_jax.utils.checks import fail
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError


def length(config: RunConfig, mixtures: Iterable[str]) -> int:
  """Return L, the tokens of a row of all splits that mixtures are drawn from.

  Raises:
    ConfigError: if they differ.
  """
  task = tasks.get(config.task)
  names = list(mixtures)
  used = {labels.split_of(x) for name in names for x in weights(config, name)}
  lengths = {split: task.length(config.data, split) for split in sorted(used)}
  if len(set(lengths.values())) != 1:
    raise ConfigError(
      f"config.mixtures of {', '.join(names)}: expected splits whose rows are equally "
      f"long, got {lengths} tokens; change their lengths or the mixture"
    )
  return lengths[min(lengths)]


def selection(config: RunConfig, mixtures: Iterable[str]) -> str | None:
  """Return the selection whose rows mixtures are drawn from; None: of none.

  Raises:
    ConfigError: if there are several.
  """
  names = list(mixtures)
  used = {labels.named(x).selection for name in names for x in weights(config, name)}
  selections = sorted(name for name in used if name is not None)
  if len(selections) > 1:
    raise ConfigError(
      f"config.mixtures of {', '.join(names)}: expected rows of one selection, got "
      f"those of {', '.join(selections)}; name one of them in each"
    )
  return selections[0] if selections else None


def weights(config: RunConfig, mixture: str) -> dict[str, float]:
  """Return the splits of a mixture with a weight, in the task's order."""
  used = {name: w for name, w in config.mixtures[mixture].items() if w}
  # The order of splits seeds them.
  return {
    name: weight
    for split in tasks.get(config.task).splits(config.data)
    for name, weight in used.items()
    if labels.split_of(name) == split
  }


def in_stage(config: RunConfig, mixture: str) -> dict[str, float]:
  """Return the splits of a mixture with a weight, by the names that stages have."""
  return {
    labels.named(name).in_stage: weight
    for name, weight in weights(config, mixture).items()
  }


def checked(config: RunConfig, field: str, name: str) -> dict[str, float]:
  """Return the splits with a weight of the mixture that a field names.

  Raises:
    ConfigError: if there is no such mixture, or it has none.
  """
  if name not in config.mixtures:
    raise FieldError(field, f"one of {', '.join(config.mixtures)}", name)
  used = {s: weight for s, weight in config.mixtures[name].items() if weight}
  if not used:
    fail(f"mixtures.{name}", "a weight above 0", config.mixtures[name])
  return used
