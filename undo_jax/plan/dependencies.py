"""Which models a recipe needs, and the order in which models are made."""

from collections.abc import Iterable, Mapping

from undo_jax import objectives
from undo_jax.plan.config import TEACHER, Recipe
from undo_jax.utils import records
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError


def ordered(recipes: Mapping[str, Recipe]) -> list[str]:
  """Return the names of recipes, each after those that it needs.

  Raises:
    ConfigError: if one needs a recipe that does not exist, or itself through others.
  """
  done: list[str] = []

  def visit(name: str, waiting: tuple[str, ...]) -> None:
    if name in waiting:
      circle = " -> ".join((*waiting[waiting.index(name) :], name))
      raise ConfigError(f"config.models: expected no circle of needs, got {circle}")
    if name in done:
      return
    for field, parent in parents(recipes[name]):
      if parent not in recipes:
        field = f"config.models.{recipes[name].family or name}.{field}"
        known = ", ".join(other for other in recipes if other != name)
        raise records.fixable(FieldError(field, f"one of {known}", parent))
      visit(parent, (*waiting, name))
    done.append(name)

  for name in recipes:
    visit(name, ())
  return done


def parents(recipe: Recipe) -> Iterable[tuple[str, str]]:
  """Yield the fields of a recipe that name other models, and the models."""
  if recipe.checkpoint is not None:
    return
  if recipe.origin is not None:
    yield "frozen.teacher" if recipe.start == TEACHER else "start", recipe.origin
    if recipe.noise.saliency.reads_gradients:
      yield "noise.saliency.model", recipe.noise.saliency.model
  if recipe.trained.reads_gradients:
    yield "trained.model", recipe.trained.model
  for role in roles(recipe):
    model = recipe.frozen.get(role)
    if model is not None:
      yield f"frozen.{role}", model


def roles(recipe: Recipe) -> list[str]:
  """Return the roles of the models that a recipe's objective reads."""
  method = objectives.method(recipe.objective, recipe.options)
  return [role for role in method.frozen if role not in method.derived]
