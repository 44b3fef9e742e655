"""A workdir belongs to one config; what may differ in others that use it."""

from collections.abc import Mapping
from typing import Any

from undo_jax.plan import stages
from undo_jax.plan.config import FREE_FIELDS
from undo_jax.utils import files, workdirs
from undo_jax.utils.types import ConfigError, JsonObject

# Tables to which entries may be added in a workdir that has a run.
_TABLES = ("models", "attacks", "mixtures", "selections")


def claim_workdir(workdir: files.Path, config: Mapping[str, object]) -> None:
  """Make the run directory the config's own, or check that it is.

  Seeds, models, attacks, mixtures and selections may be added: what is new is run, and
  what is finished is left.

  Raises:
    ConfigError: if the path is no directory, cannot be written, or belongs to a
      run of another config; names the fields that differ.
  """
  path = workdir / "config.json"
  version = files.read_record(path).get("version") if path.exists() else stages.VERSION
  if version != stages.VERSION:
    raise ConfigError(
      f"--workdir {workdir} holds a run directory of version {version or 'below 3'}, "
      f"and this undo_jax writes version {stages.VERSION}; give another workdir"
    )
  workdirs.claim(workdir, config, free=(*FREE_FIELDS, "seeds"), effective=_effective)


def _effective(config: JsonObject, other: JsonObject) -> JsonObject:
  """Return the part of a config that must equal another's: entries that both have."""
  compared = dict(config)
  for table in _TABLES:
    shared = other.get(table, {})
    entries = config.get(table, {}).items()
    compared[table] = {
      name: _determining(entry) for name, entry in entries if name in shared
    }
  return compared


def _determining(entry: Mapping[str, Any]) -> JsonObject:
  """Return an entry without what does not change its result."""
  left_out = ("run", "look", "label", "models", "seeds", "is_attacked")
  kept = {name: value for name, value in entry.items() if name not in left_out}
  # Workdirs from before there was this field have none.
  if not kept.get("teacher_predictions", {}).get("keep"):
    kept.pop("teacher_predictions", None)
  return kept
