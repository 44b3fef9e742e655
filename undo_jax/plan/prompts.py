"""Text that a teacher reads before every row, and its student does not."""

from undo_jax import objectives
from undo_jax.data import tokenizers
from undo_jax.plan.config import Recipe, RunConfig
from undo_jax.utils.errors import ConfigError
from undo_jax.utils.records import FieldError
from undo_jax.utils.types import Options


def with_prompt(config: RunConfig, recipe: Recipe) -> Options:
  """Return a recipe's options with its teacher's prompt among them, if any.

  Raises:
    FieldError: if the task's tokenizer cannot write the prompt, or no teacher reads it.
  """
  text, field = recipe.teacher_prompt, "teacher_prompt"
  if text is None:
    return recipe.options
  if not objectives.takes(recipe.objective, "prompt"):
    expected = f"None, since {recipe.objective} has no teacher that reads a prompt"
    raise FieldError(field, expected, text)
  if recipe.teacher_predictions.keep:
    expected = "None where teacher_predictions.keep is True: those are of rows alone"
    raise FieldError(field, expected, text)
  name = config.data["tokenizer"]
  tokenizer = tokenizers.make(name)
  try:
    ids = tokenizer.encode(text)
  except (ConfigError, ValueError):
    ids = []
  if not ids or tokenizer.decode(ids).strip() != text.strip():
    expected = f"a text that the tokenizer {name!r} can write"
    raise FieldError(field, expected, text)
  return {**recipe.options, "prompt": ids, "prompt_after": tokenizer.bos_id}
