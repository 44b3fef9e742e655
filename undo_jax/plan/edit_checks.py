"""Checks of an edit of the weights against the rest of a config, before any compute."""

from undo_jax import attacks, tasks
from undo_jax.attacks.edit import Edit
from undo_jax.plan import mixtures
from undo_jax.plan.attack_entries import EditEntry
from undo_jax.plan.config import RunConfig
from undo_jax.utils.records import FieldError


def check(config: RunConfig, entry: EditEntry, shards: int) -> None:
  """Raise ConfigError at the first thing in an entry that cannot work."""
  edit = attacks.EDITS.get(entry.edit)
  attacks.check_edit(config.model, entry.edit, entry.options, entry.strengths)
  if entry.seeds and not edit.draws:
    raise FieldError("seeds", f"(), since {entry.edit} draws nothing", entry.seeds)
  for model in entry.models:
    if model not in config.models:
      raise FieldError("models", f"some of {', '.join(config.models)}", model)
  if edit.reads_base and config.references.base is None:
    expected = (
      "an edit that does without the base, since config.references.base is None"
    )
    raise FieldError("edit", expected, entry.edit)
  if edit.is_worked and tasks.get(config.task).worked is None:
    expected = f"another edit, since the task {config.task} has no worked examples"
    raise FieldError("edit", expected, entry.edit)
  _check_rows(config, entry, edit, shards)


def _check_rows(config: RunConfig, entry: EditEntry, edit: Edit, shards: int) -> None:
  """Check that an edit is given the rows that it reads, and no others."""
  mixture, reads = entry.mixture or {}, edit.reads
  if set(mixture) != set(reads):
    parts = (
      f"a mixture for {', '.join(reads)}" if reads else "None, as it reads no rows"
    )
    raise FieldError("mixture", parts, mixture or None)
  if entry.rows is not None and entry.rows % shards:
    expected = f"a multiple of {shards} (devices along data x fsdp)"
    raise FieldError("rows", expected, entry.rows)
  forget = tasks.get(config.task).forget_splits(config.data)
  for part, name in mixture.items():
    weights = {n for n, weight in config.mixtures.get(name, {}).items() if weight}
    if not weights:
      known = [
        name for name, weights in config.mixtures.items() if any(weights.values())
      ]
      raise FieldError(f"mixture.{part}", f"one of {', '.join(known)}", name)
    wrong = sorted(n for n in weights if (n in forget) != (part == "forget"))
    if wrong:
      which = "forget" if part == "forget" else "no forget"
      raise FieldError(f"mixture.{part}", f"a mixture of {which} data alone", name)
  if edit.beside is None or not mixture:
    return
  length = mixtures.length(config, mixture.values())
  longest = max(entry.strengths, key=edit.beside.tokens)
  if edit.beside.tokens(longest) > length:
    expected = f"prompts of at most {length} tokens, a row's length"
    raise FieldError("strengths", expected, longest)
