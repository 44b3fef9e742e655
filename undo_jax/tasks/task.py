"""The record of a task, in which its file ends."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, Protocol, TypeAlias

from undo_jax.evaluation.metrics import Metric
from undo_jax.utils.types import JsonObject, Params, Problems, Rows

Data: TypeAlias = Mapping[str, Any]  # A config's block of that name.
Found: TypeAlias = tuple[tuple[str, ...], JsonObject]
# (params, problems) -> scores, "retain" and "forget" among them.
Evaluate: TypeAlias = Callable[[Params, Problems], JsonObject]


class MakeEvaluate(Protocol):
  """Makes the evaluation of a decoder."""

  def __call__(
    self, apply: Callable[..., Any], names: Sequence[str], *, rows_at_once: int
  ) -> Evaluate:
    """Return the pure `(params, problems) -> {"retain", "forget", *names}`."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """Which data a run has, and how its models are scored."""

  # For "retain" and "forget" the fields of frontier.results.Metric. Where there is
  # "forget_attacked", it is of what the attacker reads, and "forget" of other items.
  metrics: Mapping[str, Metric]
  # Further scores that fall as a model gets better. All others are of the kind of the
  # retain score.
  falling: tuple[str, ...] = ()
  splits: Callable[[Data], tuple[str, ...]]  # Of training, of which mixtures are made.
  forget_splits: Callable[[Data], tuple[str, ...]]  # Those to be forgotten.
  length: Callable[[Data, str], int]  # L, the tokens of a row of a split.
  # Raises ConfigError at the first field of `data` that cannot work.
  check: Callable[[Data], None]
  # What the files that `data` names hold (JSON), whatever their paths.
  content: Callable[[Data], JsonObject]
  # (data, seeds, directory, title): writes the rows; returns "rows" by split,
  # "evaluation", how many items are scored in all, and of accuracies "items", how many
  # for each metric; "apart": what of apart.check is recorded.
  prepare: Callable[[Data, Mapping[str, int], pathlib.Path, str], JsonObject]
  # (data, directory, split): random access to the rows that `prepare` wrote.
  source: Callable[[Data, pathlib.Path, str], Rows]
  # (data, seeds, directory): the names of the scores by task and the problems, arrays
  # with leading axis P.
  problems: Callable[[Data, Mapping[str, int], pathlib.Path], Found]
  # The same of items that stop rules and searches read, and no table; None: there are
  # none, so that training cannot stop by a score.
  validation: Callable[[Data, Mapping[str, int], pathlib.Path], Found] | None = None
  # (data, seeds, directory, count, seed): `problems`, each after so many worked ones,
  # drawn from what an attacker has; None: there are none.
  worked: Callable[[Data, Mapping[str, int], pathlib.Path, int, int], Found] | None = (
    None
  )
  # As `problems` with shapes for arrays, where `problems` reads what `prepare` wrote.
  problem_shapes: Callable[[Data, Mapping[str, int], pathlib.Path], Found] | None = None
  make_evaluate: MakeEvaluate
