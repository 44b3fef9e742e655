"""A run directory belongs to one config, which is in its config.json."""

from collections.abc import Callable, Mapping, Sequence
import os
from typing import Any, TypeAlias

from ml_collections import config_dict

from undo_jax.utils import files
from undo_jax.utils.types import ConfigError, JsonObject

Content: TypeAlias = JsonObject  # A config as JSON has it.


def claim(
  workdir: files.Path,
  config: Mapping[str, Any] | config_dict.ConfigDict,
  *,
  free: Sequence[str],
  effective: Callable[[Content, Content], Content] = lambda config, other: config,
) -> None:
  """Makes the run directory the config's own, or checks that it is.

  Args:
    workdir: the directory, made with its parents if it is missing.
    config: of the run.
    free: top-level fields that may differ from those of the run that is there.
    effective: of (config, the other one) what must be equal in both.

  Raises:
    ConfigError: if the path looks like a glob, is no directory, cannot be written, or
      belongs to a run of another config; names the fields that differ.
  """
  _check_name(workdir)
  path = workdir / "config.json"
  is_config = isinstance(config, config_dict.ConfigDict)
  mine = files.plain(config.to_dict() if is_config else dict(config))
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      files.write_json(path, mine)
  except (FileExistsError, NotADirectoryError, PermissionError) as error:
    raise ConfigError(
      f"--workdir must be a directory that can be written, got {workdir} "
      f"({error.strerror}); give another path"
    ) from error
  theirs = files.read_record(path)
  old, new = (
    {name: value for name, value in compared.items() if name not in free}
    for compared in (effective(theirs, mine), effective(mine, theirs))
  )
  differing = _differences(old, new)
  if differing:
    raise ConfigError(
      f"--workdir {workdir} belongs to a run of another config, which differs in "
      + "; ".join(differing)
      + ". Give another workdir, or the same config to resume"
    )
  if theirs != mine:  # In what is free to change.
    files.write_json(path, mine)


def _check_name(workdir: files.Path) -> None:
  """Refuses what Orbax takes for a glob: it would not find what it wrote."""
  name = os.path.abspath(workdir) if not files.is_remote(workdir) else str(workdir)
  if set(name) & set("*?[]\\"):
    raise ConfigError(
      f"--workdir must be a path without any of * ? [ ] \\, got {name}; checkpoints in "
      "it could not be read again. Give another path"
    )


def _differences(theirs: Content, mine: Content, prefix: str = "") -> list[str]:
  differing = []
  for name in sorted({*theirs, *mine}):
    old, new = theirs.get(name, "nothing"), mine.get(name, "nothing")
    if isinstance(old, dict) and isinstance(new, dict):
      differing += _differences(old, new, f"{prefix}{name}.")
    elif old != new:
      differing.append(f"config.{prefix}{name} ({old!r} there, {new!r} here)")
  return differing
