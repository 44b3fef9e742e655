"""The registry of settings: which data a run has and how its models are scored.

A new setting is one file with the names of `Setting`, and one line here.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib
from typing import Any, Protocol

from undo_jax.tasks import arithmetic, facts, language, wmdp
from undo_jax.utils.types import ConfigError


class Setting(Protocol):
  """What a module of a setting offers; `data` is the config's block of that name.

  Attributes:
    METRICS: for "retain" and "forget" the entries {"name", "unit", "range",
      "higher_is"} of results.json.
    FALLING: optional, names of further scores that fall as a model gets better.
      All others are of the kind of the retain score.
    problem_shapes: optional, what `problems` returns with shapes for arrays, where it
      reads rows that `prepare` wrote: needs none of them.
  """

  METRICS: Mapping[str, Mapping[str, Any]]

  def splits(self, data: Any) -> tuple[str, ...]:
    """Returns the names of the training splits, of which mixtures are made."""
    ...

  def forget_splits(self, data: Any) -> tuple[str, ...]:
    """Returns those of `splits` that hold what is to be forgotten."""
    ...

  def length(self, data: Any, split: str) -> int:
    """Returns L, the tokens of a row of a split."""
    ...

  def check(self, config: Any) -> None:
    """Raises ConfigError at the first field of `config.data` that cannot work."""
    ...

  def content(self, data: Any) -> dict[str, Any]:
    """Returns what the files that `data` names hold (JSON), whatever their paths."""
    ...

  def prepare(
    self,
    data: Mapping[str, Any],
    seeds: Mapping[str, int],
    directory: pathlib.Path,
    title: str,
  ) -> dict[str, Any]:
    """Writes the rows under `directory`; returns "rows" by split and "evaluation"."""
    ...

  def source(self, data: Mapping[str, Any], directory: pathlib.Path, split: str) -> Any:
    """Returns random access to the rows of a split that `prepare` has written."""
    ...

  def problems(
    self, data: Mapping[str, Any], seeds: Mapping[str, int], directory: pathlib.Path
  ) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Returns the evaluation tasks and their problems, arrays with leading axis P."""
    ...

  def make_evaluate(
    self, apply: Callable, names: Sequence[str], *, rows_at_once: int
  ) -> Callable:
    """Returns the pure `(params, problems) -> {"retain", "forget", *names}`."""
    ...


REGISTRY: dict[str, Setting] = {
  "arithmetic": arithmetic,
  "facts": facts,
  "language": language,
  "wmdp": wmdp,
}


def get(name: str) -> Setting:
  """Returns the setting registered as `name`.

  Raises:
    ConfigError: if there is none.
  """
  if name not in REGISTRY:
    raise ConfigError(
      f"config.setting: expected one of {', '.join(REGISTRY)}, got {name!r}; set it "
      "in the config file"
    )
  return REGISTRY[name]
