"""Checks of an edit of the weights against the rest of a config, before any compute."""

from undo_jax import attacks
from undo_jax.plan.attack_entries import EditEntry
from undo_jax.plan.config import RunConfig
from undo_jax.utils.records import FieldError


def check(config: RunConfig, entry: EditEntry) -> None:
  """Raises ConfigError at the first thing in an entry that cannot work."""
  edit = attacks.EDITS.get(entry.edit)
  attacks.check_edit(config.model, entry.edit, entry.options, entry.strengths)
  if entry.seeds and not edit.is_random:
    raise FieldError("seeds", f"(), since {entry.edit} draws nothing", entry.seeds)
  for model in entry.models:
    if model not in config.models:
      raise FieldError("models", f"some of {', '.join(config.models)}", model)
  if edit.reads_base and config.references.base is None:
    expected = (
      "an edit that does without the base, since config.references.base is None"
    )
    raise FieldError("edit", expected, entry.edit)
