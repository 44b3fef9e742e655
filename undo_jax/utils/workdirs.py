"""A run directory belongs to one config, which is in its config.json."""

from collections.abc import Callable, Sequence
from typing import Any

from undo_jax.utils import files
from undo_jax.utils.types import ConfigError


def claim(
  workdir: files.Path,
  config: Any,
  *,
  free: Sequence[str],
  effective: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config,
) -> None:
  """Makes the run directory the config's own, or checks that it is.

  Args:
    workdir: the directory, made with its parents if it is missing.
    config: a whole ConfigDict.
    free: top-level fields that may differ from those of the run that is there.
    effective: takes what is not read out of a config, as a dict, before comparing.

  Raises:
    ConfigError: if the path is no directory, cannot be written, or belongs to a
      run of another config; names the fields that differ.
  """
  path = workdir / "config.json"
  mine = files.plain(config.to_dict())
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      files.write_json(path, mine)
  except (FileExistsError, NotADirectoryError, PermissionError) as error:
    raise ConfigError(
      f"--workdir must be a directory that can be written, got {workdir} "
      f"({error.strerror}); give another path"
    ) from error
  theirs = files.read_json(path)
  old, new = (
    {name: value for name, value in effective(config).items() if name not in free}
    for config in (theirs, mine)
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


def _differences(theirs, mine, prefix=""):
  found = []
  for name in sorted({*theirs, *mine}):
    old, new = theirs.get(name, "nothing"), mine.get(name, "nothing")
    if isinstance(old, dict) and isinstance(new, dict):
      found += _differences(old, new, f"{prefix}{name}.")
    elif old != new:
      found.append(f"config.{prefix}{name} ({old!r} there, {new!r} here)")
  return found
