"""The language setting: keep one language, forget another, from the user's files."""

from collections.abc import Callable, Mapping, Sequence
import itertools
import pathlib
from typing import Any

from undo_jax.evaluation import cross_entropy
from undo_jax.tasks import corpora
from undo_jax.utils import checks

DOMAINS = ("retain", "forget")
METRICS: Mapping[str, Mapping[str, Any]] = {
  name: {
    "name": f"cross-entropy on held-out {name} documents",
    "unit": "nats per token",
    "range": [0, None],
    "higher_is": "less capable",
  }
  for name in DOMAINS
}


def splits(data: Any) -> tuple[str, ...]:
  """Returns the training splits: the two languages."""
  del data
  return DOMAINS


def forget_splits(data: Any) -> tuple[str, ...]:
  """Returns the one split of what is to be forgotten."""
  del data
  return ("forget",)


def length(data: Any, split: str) -> int:
  """Returns the tokens of a row, the same in all splits."""
  del split
  return data["sequence_length"]


def content(data: Any) -> dict[str, Any]:
  """Returns the checksums of the documents."""
  return {"content": corpora.content(data, DOMAINS)}


def check(config: Any) -> None:
  """Checks `config.data`; see configs/language.py for its fields."""
  checks.at_least(config, "data.num_evaluation_rows", 1)
  corpora.check(config.data, DOMAINS)
  for name in DOMAINS:
    fraction = config.data[name].validation_fraction
    if not fraction:
      checks.fail(
        f"data.{name}.validation_fraction", "a share to be scored on", fraction
      )


def prepare(
  data: Mapping[str, Any],
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> dict[str, Any]:
  """Tokenizes and packs both languages, training and held-out documents."""
  prepared = corpora.prepare(data, DOMAINS, seeds, directory, title)
  corpora.check_disjoint(
    data,
    directory,
    [
      ("retain_train", "forget_train"),
      *itertools.product(
        [f"{name}_train" for name in DOMAINS],
        [f"{name}_validation" for name in DOMAINS],
      ),
    ],
  )
  _held_out(data, directory)  # Too few rows are an error here, not after training.
  sizes = {name: prepared[name]["rows"]["train"] for name in DOMAINS}
  return {
    "rows": sizes,
    "evaluation": len(DOMAINS) * data["num_evaluation_rows"],
    "corpora": prepared,
  }


def source(data: Mapping[str, Any], directory: pathlib.Path, split: str) -> Any:
  """Returns the training rows of a language."""
  return corpora.read(data, directory, split, "train")


def problems(
  data: Mapping[str, Any], seeds: Mapping[str, int], directory: pathlib.Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
  """Returns the held-out rows; no tasks, the two scores say all."""
  del seeds
  return (), _held_out(data, directory)


def problem_shapes(
  data: Mapping[str, Any], seeds: Mapping[str, int], directory: pathlib.Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
  """Returns what `problems` does, as shapes; reads nothing."""
  del seeds, directory
  rows = len(DOMAINS) * data["num_evaluation_rows"]
  return (), cross_entropy.problem_shapes(rows, data["sequence_length"])


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int
) -> Callable:
  """Returns the cross-entropy of both languages; see evaluation.cross_entropy."""
  del names
  return cross_entropy.make_evaluate(apply, DOMAINS, rows_at_once=rows_at_once)


def _held_out(data, directory):
  sources = {
    name: corpora.read(data, directory, name, "validation") for name in DOMAINS
  }
  return cross_entropy.problems(sources, data["num_evaluation_rows"])
