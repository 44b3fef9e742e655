"""The functions by which a config file is asked for, and asks for others."""

from undo_jax.config.blocks import Config
from undo_jax.utils import config_files


def parse_size(arg: str | None, sizes: tuple[str, ...]) -> str:
  """Return the size that follows the colon in --config=FILE:SIZE.

  Raises:
    ValueError: if it is not one of `sizes`; no argument means the first.
  """
  size = arg or sizes[0]
  if size not in sizes:
    raise ValueError(
      f"unknown size {size!r} after the colon of --config; known are "
      + ", ".join(sizes)
    )
  return size


def shipped(name: str) -> Config:
  """Return a config of the project by FILE:SIZE, as in "arithmetic:tiny".

  Raises:
    ConfigError: if there is no such file or size.
  """
  return config_files.load(name)
