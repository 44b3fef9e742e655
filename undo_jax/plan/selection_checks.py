"""Checks of selections, and of mixtures that name their rows, before any compute."""

from collections.abc import Mapping

from undo_jax import tasks
from undo_jax.data import labels, row_classifier
from undo_jax.objectives.method import Method
from undo_jax.plan import mixtures
from undo_jax.plan.config import Recipe, RunConfig
from undo_jax.plan.selection import Selection
from undo_jax.plan.stages import SelectionStage, Stage
from undo_jax.utils.checks import fail
from undo_jax.utils.records import FieldError


def check(config: RunConfig) -> None:
  """Raise ConfigError if a selection, or a name of its rows, cannot be.

  Args:
    config: see plan.config.parse.
  """
  for name, selection in config.selections.items():
    _check_selection(config, name, selection)
  for name, mixture in config.mixtures.items():
    weights = {split: weight for split, weight in mixture.items() if weight}
    selected = [split for split in weights if ":" in split]
    for split in selected:
      _check_name(config, f"mixtures.{name}.{split}", split, weights[split])
    if len({labels.named(split).selection for split in weights}) > 1:
      expected = "rows of one selection alone, or splits alone"
      fail(f"mixtures.{name}", expected, list(weights))


def check_installed(plan: list[Stage]) -> None:
  """Raise ConfigError if what selects rows of a plan is not installed."""
  if any(isinstance(stage, SelectionStage) for stage in plan):
    row_classifier.check_installed()


def check_recipe(config: RunConfig, recipe: Recipe, method: Method) -> None:
  """Check that an entry which reads selected rows may read them.

  Raises:
    ConfigError: if it reads those of several selections, has labels of its own, or is
      to unlearn rows that were selected as clean.
  """
  if mixtures.selection(config, recipe.mixture.values()) is None:
    return
  if method.sources != "none" or recipe.labels.drop_forget:
    expected = "mixtures of splits, since labels.share says what is labelled of them"
    raise FieldError("mixture", expected, recipe.mixture)
  if method.is_unlearning:
    check_forget(config, recipe.mixture["forget"])


def check_forget(config: RunConfig, mixture: str) -> None:
  """Check that a mixture of what is to be forgotten has no rows selected as clean."""
  for name, weight in config.mixtures[mixture].items():
    if weight and labels.named(name).which == labels.SELECTED:
      expected = f"0, since these are taken as clean; {name}:{labels.LABELLED} are not"
      fail(f"mixtures.{mixture}.{name}", expected, weight)


def by_label(weights: Mapping[str, float]) -> dict[str, float]:
  """Return a mixture without rows that were selected: those whose kind is known."""
  return {
    name: weight
    for name, weight in weights.items()
    if labels.named(name).which != labels.SELECTED
  }


def _check_selection(config: RunConfig, name: str, selection: Selection) -> None:
  """Check that a selection has both kinds of rows to tell apart."""
  field, mixture = f"selections.{name}.mixture", selection.mixture
  if mixture not in config.mixtures:
    fail(field, f"one of {', '.join(config.mixtures)}", mixture)
  weights = {split: w for split, w in config.mixtures[mixture].items() if w}
  selected = [split for split in weights if ":" in split]
  if selected:
    expected = "0, since a selection tells the rows of whole splits apart"
    fail(f"mixtures.{mixture}.{selected[0]}", expected, weights[selected[0]])
  forget = tasks.get(config.task).forget_splits(config.data)
  if not {*weights} & {*forget} or not {*weights} - {*forget}:
    both = f"weight on {', '.join(forget)} and on others, which it tells apart"
    fail(field, f"a mixture with {both}", mixture)


def _check_name(config: RunConfig, field: str, name: str, weight: float) -> None:
  """Check a name of a mixture that is one of selected or of labelled rows."""
  named = labels.named(name)
  if named.selection not in config.selections:
    known = ", ".join(config.selections) or "none is declared"
    fail(field, f"0, since there is no such selection ({known})", weight)
  if named.in_config != name or named.which not in (labels.SELECTED, labels.LABELLED):
    plain = f"{named.split}:{named.selection}"
    fail(field, f"0, since rows are {plain} or {plain}:{labels.LABELLED}", weight)
  own = config.mixtures[config.selections[str(named.selection)].mixture]
  splits = [split for split, each in own.items() if each]
  if named.split not in splits:
    of = f"{named.selection} selects rows of {', '.join(splits)}"
    fail(field, f"0, since {of}", weight)
