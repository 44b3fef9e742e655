"""The language task: keep one language, forget another, from the user's files.

An attacker may have documents of its own, the corpus `attack`, on which no model has
been trained before; without it the attack reads the forget documents. Scores are
measured on other documents, which no model and no attacker reads; `forget_attacked` is
measured on the first ones that the attacker reads. Stop rules read a third set.
"""

from collections.abc import Callable, Mapping, Sequence
import itertools
import pathlib

from undo_jax.evaluation import cross_entropy, metrics
from undo_jax.tasks import apart, corpora
from undo_jax.tasks.task import Data, Found, Task
from undo_jax.utils import checks
from undo_jax.utils.types import JsonObject, Rows

DOMAINS = ("retain", "forget")
ATTACK = "attack"
METRICS = {
  name: metrics.cross_entropy(f"{documents} documents")
  for name, documents in (
    ("retain", "held-out retain"),
    ("forget", "held-out forget"),
    ("forget_attacked", "the attacker's"),
  )
}


def splits(data: Data) -> tuple[str, ...]:
  """Return the training splits: the two languages, and the attacker's documents."""
  return (*DOMAINS, ATTACK) if ATTACK in data else DOMAINS


def forget_splits(data: Data) -> tuple[str, ...]:
  """Return the splits of what is to be forgotten, an attacker's with them."""
  return splits(data)[1:]


def length(data: Data, split: str) -> int:
  """Return the tokens of a row, the same in all splits."""
  del split
  return data["sequence_length"]


def content(data: Data) -> JsonObject:
  """Return the checksums of the documents."""
  return {"content": corpora.content(data, splits(data))}


def check(data: Data) -> None:
  """Check `data`; see configs/language.py for its fields."""
  checks.at_least({"data": data}, "data.num_evaluation_rows", 1)
  corpora.check(data, splits(data), held_out=DOMAINS)


def prepare(
  data: Data,
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> JsonObject:
  """Tokenize and pack the documents, those for training and those held out."""
  prepared = corpora.prepare(data, splits(data), seeds, directory, title)
  trained = [f"{name}_train" for name in splits(data)]
  held_out = [f"{name}_{split}" for name in DOMAINS for split in corpora.HELD_OUT]
  pairs = [*itertools.combinations(trained, 2), *itertools.product(trained, held_out)]
  corpora.check_disjoint(data, directory, pairs)
  corpora.check_held_out(data, directory, DOMAINS)
  for split in corpora.HELD_OUT:  # Too few rows are an error here, not after training.
    _rows(data, directory, split)
  sizes = {name: prepared[name]["rows"]["train"] for name in splits(data)}
  return {
    "rows": sizes,
    "evaluation": len(METRICS) * data["num_evaluation_rows"],
    "corpora": prepared,
    "apart": _apart(data, directory),
  }


def _apart(data, directory) -> JsonObject:
  """Check that no document that the attacker reads is one that is held out."""
  attacked = splits(data)[-1]
  names = {apart.ATTACKED: [f"{attacked}_train"]}
  for kind, split in ((apart.SCORED, "test"), (apart.STOPPING, "validation")):
    names[kind] = [f"{name}_{split}" for name in DOMAINS]
  return apart.check(
    "documents",
    {kind: apart.of_documents(data, directory, own) for kind, own in names.items()},
    splits=(attacked,),
  )


def source(data: Data, directory: pathlib.Path, split: str) -> Rows:
  """Return the training rows of a language."""
  return corpora.read(data, directory, split, "train")


def problems(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the rows that are scored; no tasks, the groups say all."""
  del seeds
  return (), _rows(data, directory, "test")


def validation(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the same of documents that no table reports, none attacked."""
  del seeds
  return (), _rows(data, directory, "validation")


def problem_shapes(
  data: Data, seeds: Mapping[str, int], directory: pathlib.Path
) -> Found:
  """Return what `problems` does, as shapes; reads nothing."""
  del seeds, directory
  rows = len(METRICS) * data["num_evaluation_rows"]
  return (), cross_entropy.problem_shapes(rows, data["sequence_length"])


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int
) -> Callable:
  """Return the cross-entropies; see evaluation.cross_entropy."""
  del names
  return cross_entropy.make_evaluate(apply, tuple(METRICS), rows_at_once=rows_at_once)


def _rows(data, directory, split):
  """Return held-out rows of both languages, and the first that the attacker reads."""
  sources = {name: corpora.read(data, directory, name, split) for name in DOMAINS}
  attacked = corpora.read(data, directory, splits(data)[-1], "train")
  sources["forget_attacked"] = attacked
  return cross_entropy.problems(sources, data["num_evaluation_rows"])


TASK = Task(
  metrics=METRICS,
  splits=splits,
  forget_splits=forget_splits,
  length=length,
  check=check,
  content=content,
  prepare=prepare,
  source=source,
  problems=problems,
  validation=validation,
  problem_shapes=problem_shapes,
  make_evaluate=make_evaluate,
)
