"""The flag --config: a config file, and its fields as flags that take None too."""

import ast
from collections.abc import Callable, Iterator, Sequence
import difflib
import re
import sys

from absl import flags
from ml_collections import config_dict, config_flags
from ml_collections.config_flags import config_path, tuple_parser

from undo_jax.utils import config_files, records
from undo_jax.utils.errors import ConfigError


def define(
  values: flags.FlagValues = flags.FLAGS, argv: list[str] | None = None
) -> flags.FlagHolder[config_dict.ConfigDict]:
  """Define --config; the config is locked: a field it does not have is an error.

  Args:
    values: where the flag and its fields are defined.
    argv: the command line that names the fields; None: this process's.
  """
  for kind, parser in _PARSERS.items():
    config_flags.register_flag_parser_for_type(kind, parser)
  holder = config_flags.DEFINE_config_file(
    "config",
    None,
    "A shipped config or a file, its size after a colon: arithmetic:tiny, "
    "configs/arithmetic.py:tiny. --config.FIELD=VALUE overrides a field: "
    "--config.seeds='(0,1)' --config.replicas_at_once=None",
    flag_values=values,
    sys_argv=argv,
  )
  values["config"].parser = _File(argv)
  flags.mark_flag_as_required("config", values)
  return holder


def check_fields(config: config_dict.ConfigDict, argv: Sequence[str]) -> None:
  """Raise ConfigError at the first --config.FIELD that the config does not have."""
  for argument in argv:
    match = re.match(r"--?(?:no)?config\.([^=]+)", argument)
    if match:
      _check_field(config, match[1])


def _check_field(config: config_dict.ConfigDict, path: str) -> None:
  try:
    parts = [str(part) for part in config_path.split(path)]
  except ValueError:  # As 'mixtures.selected.retain:few', whose colon needs brackets.
    parts = path.split(".")
    if ":" in path:
      named = records.flag(f"config.{path}")
      raise ConfigError(f"--config.{path}: expected {named} in quotes") from None
  place: object = config
  for depth, name in enumerate(parts):
    if not isinstance(place, config_dict.ConfigDict) or name not in place:
      holder = ".".join(["config", *parts[:depth]])
      fields = place if isinstance(place, config_dict.ConfigDict) else ()
      elsewhere = [other for other in _leaves(config) if other.endswith(f".{name}")]
      near = elsewhere[:3] or nearest(name, list(fields))
      if near:
        hint = f"; did you mean {' or '.join(near)}?"
      else:
        hint = f"; its fields are {', '.join(fields)}" if fields else ", it is no block"
      raise ConfigError(f"--config.{path}: {holder} has no field {name}{hint}")
    place = place[name]


def nearest(name: str, known: Sequence[str]) -> list[str]:
  """Return up to three names that are like one, or have it as their initials.

  None where no name is: what was meant is then not guessed.
  """

  def likeness(other: str) -> float:
    initials = "".join(word[:1] for word in other.split("_"))
    return max(
      difflib.SequenceMatcher(None, name, form).ratio() for form in (other, initials)
    )

  best = sorted(known, key=likeness, reverse=True)[:3]
  return [other for other in best if likeness(other) >= 0.6]


def _leaves(config: config_dict.ConfigDict, prefix: str = "") -> Iterator[str]:
  """Yield the paths of all fields that are no blocks."""
  for name, value in config.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from _leaves(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}"


class _File(flags.ArgumentParser):
  """Reads a config file and checks the names of the fields that are overridden."""

  def __init__(self, argv: list[str] | None):
    self._argv = argv

  def parse(self, argument: str) -> config_dict.ConfigDict:
    config = config_files.load(argument)
    config.lock()
    argv = sys.argv if self._argv is None else self._argv
    check_fields(config, flags.FLAGS.read_flags_from_files(argv, force_gnu=False))
    return config


class _Field(flags.ArgumentParser):
  """Reads the value of a field of some type, or None."""

  def __init__(self, convert: Callable[[str], object], expected: str):
    self._convert, self._expected = convert, expected

  def parse(self, argument: object) -> object:
    if not isinstance(argument, str):  # The value in the config file.
      return argument
    if argument == "None":
      return None
    try:
      return self._convert(argument)
    except (ValueError, SyntaxError):
      raise ValueError(f"expected {self._expected} or None") from None


def _literal(text: str) -> object:
  """Return the value of a field without a type: a literal, or else the text."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


_PARSERS = {
  int: _Field(flags.IntegerParser().parse, "a whole number"),
  float: _Field(float, "a number"),
  bool: _Field(flags.BooleanParser().parse, "true, false"),
  str: _Field(str, "text"),
  tuple: _Field(tuple_parser.TupleParser().parse, "a tuple such as '(1,2)' or '(1,)'"),
  type(None): _Field(_literal, "a value"),
}
