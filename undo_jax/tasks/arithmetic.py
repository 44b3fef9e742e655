"""The arithmetic task: keep + and -, forget * and /."""

from collections.abc import Callable, Mapping, Sequence
import pathlib

from undo_jax.data import arithmetic, tokenizers
from undo_jax.evaluation import arithmetic as evaluation
from undo_jax.evaluation import cross_entropy, metrics
from undo_jax.tasks import corpora, generated
from undo_jax.tasks.task import Data, Found, Task
from undo_jax.utils import checks, streams
from undo_jax.utils.types import JsonObject, Rows

METRICS = {
  name: metrics.accuracy(f"exact answers in {operations}")
  for name, operations in (
    ("retain", "addition and subtraction"),
    ("forget", "multiplication and division"),
  )
}
DOMAINS = ("retain", "forget")
ENGLISH = "english"  # A corpus to mix in, and its held-out cross-entropy.
FALLING = (ENGLISH,)


def splits(data: Data) -> tuple[str, ...]:
  """Returns the training splits: the two domains and, with a corpus, English."""
  return (*DOMAINS, ENGLISH) if _has_english(data) else DOMAINS


def forget_splits(data: Data) -> tuple[str, ...]:
  """Returns the one split of what is to be forgotten."""
  del data
  return ("forget",)


def length(data: Data, split: str) -> int:
  """Returns the tokens of a row, the same in all splits."""
  del split
  return data["sequence_length"]


def content(data: Data) -> JsonObject:
  """Returns the checksums of the English corpus; the problems are generated."""
  if not _has_english(data):
    return {}
  return {"content": corpora.content(data, (ENGLISH,))}


def check(data: Data) -> None:
  """Checks `data`; see configs/arithmetic.py for its fields."""
  checks.at_least({"data": data}, "data.num_equations", 0)
  checks.at_least({"data": data}, "data.num_word_problems", 0)
  checks.at_least({"data": data}, "data.num_evaluation", 1)
  if not data["num_equations"] + data["num_word_problems"]:
    checks.fail("data.num_equations", "at least 1 where there are no word problems", 0)
  if data["num_word_problems"] and data["tokenizer"] == "characters:arithmetic":
    checks.fail(
      "data.tokenizer",
      "one with letters (characters:ascii or bytes), since there are word problems",
      data["tokenizer"],
    )
  _check_equations_fit(data, tokenizers.make(data["tokenizer"]))
  if _has_english(data):
    checks.at_least({"data": data}, "data.num_evaluation_rows", 1)
    corpora.check(data, (ENGLISH,))


def prepare(
  data: Data,
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> JsonObject:
  """Generates the documents and packs them into rows; see data.arithmetic."""
  builder = _documents(data, seeds, directory)
  tokenizer = tokenizers.make(data["tokenizer"])
  sizes = generated.pack(
    data,
    directory,
    title,
    DOMAINS,
    read=lambda domain: arithmetic.read(builder, f"{domain}_train"),
    encode=lambda problem: tokenizer.encode(problem.text),
  )
  found = {"rows": sizes, "evaluation": len(arithmetic.read(builder, "evaluation"))}
  if not _has_english(data):
    return found
  prepared = corpora.prepare(data, (ENGLISH,), seeds, directory, title)
  apart = [("english_train", "english_validation")]
  corpora.check_disjoint(data, directory, apart)
  _english_problems(data, directory)  # Too few rows are an error here, not later.
  sizes = found["rows"] | {ENGLISH: prepared[ENGLISH]["rows"]["train"]}
  return found | {"rows": sizes, "corpora": prepared}


def source(data: Data, directory: pathlib.Path, split: str) -> Rows:
  """Returns the rows of a domain, or of the English corpus."""
  if split == ENGLISH:
    return corpora.read(data, directory, ENGLISH, "train")
  return generated.source(data, directory, split)


def problems(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Returns the tasks (operation and kind; English) and the problems of each."""
  english = _english_problems(data, directory) if _has_english(data) else None
  return _problems(data, seeds, directory, english)


def problem_shapes(
  data: Data, seeds: Mapping[str, int], directory: pathlib.Path
) -> Found:
  """Returns what `problems` does, with shapes for English; reads none of its rows."""
  rows, size = data["num_evaluation_rows"], data["sequence_length"]
  shapes = cross_entropy.problem_shapes(rows, size) if _has_english(data) else None
  return _problems(data, seeds, directory, shapes)


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int
) -> Callable:
  """Returns the accuracies and, where it is a task, the cross-entropy of English."""
  tasks = [name for name in names if name != ENGLISH]
  accuracies = evaluation.make_evaluate(apply, tasks, rows_at_once=rows_at_once)
  if ENGLISH not in names:
    return accuracies
  english = cross_entropy.make_evaluate(apply, (ENGLISH,), rows_at_once=rows_at_once)

  def evaluate(params, problems):
    scores = accuracies(params, problems["arithmetic"])
    return scores | english(params, problems[ENGLISH])

  return evaluate


def _problems(data, seeds, directory, english):
  """Returns the tasks and the generated problems, with those of English if any."""
  # A model that was shown no word problem is not asked any.
  kinds = {"equation": "num_equations", "word_problem": "num_word_problems"}
  builder = _documents(data, seeds, directory)
  kept = [p for p in arithmetic.read(builder, "evaluation") if data[kinds[p.kind]]]
  arrays = evaluation.encode(kept, tokenizers.make(data["tokenizer"]))
  tasks = tuple(evaluation.tasks(kept))
  if english is None:
    return tasks, dict(arrays)
  return (*tasks, ENGLISH), {"arithmetic": arrays, ENGLISH: english}


def _has_english(data) -> bool:
  return bool(checks.field({"data": data}, "data.english.paths"))


def _english_problems(data, directory):
  held_out = corpora.read(data, directory, ENGLISH, "validation")
  return cross_entropy.problems({ENGLISH: held_out}, data["num_evaluation_rows"])


def _documents(data, seeds, directory) -> arithmetic.Arithmetic:
  """Returns the builder of the documents, written if not there yet."""
  return arithmetic.build(
    directory / "documents",
    seed=streams.integer(seeds["data"], "data"),
    evaluation_seed=streams.integer(seeds["eval"], "eval"),
    num_equations=data["num_equations"],
    num_word_problems=data["num_word_problems"],
    num_evaluation=data["num_evaluation"],
  )


def _check_equations_fit(data, tokenizer):
  """Checks that the tokenizer gives equations back and that rows hold them."""
  texts = [problem.text for problem in arithmetic.equations()]
  encoded = [tokenizer.encode(text) for text in texts]
  for text, ids in zip(texts, encoded, strict=True):
    if tokenizer.decode(ids) != text:
      checks.fail(
        "data.tokenizer",
        f"one that gives back equations as they were, but {text!r} became "
        f"{tokenizer.decode(ids)!r}",
        data["tokenizer"],
      )
  lengths = [len(ids) + (tokenizer.bos_id is not None) for ids in encoded]
  which, needed = "shortest", min(lengths)
  if data["packing"] == "one_per_row":
    which, needed = "longest", max(lengths)
  if data["sequence_length"] < needed:
    checks.fail(
      "data.sequence_length",
      f"at least {needed} with packing {data['packing']}, the {which} equation",
      data["sequence_length"],
    )


TASK = Task(
  metrics=METRICS,
  falling=FALLING,
  splits=splits,
  forget_splits=forget_splits,
  length=length,
  check=check,
  content=content,
  prepare=prepare,
  source=source,
  problems=problems,
  problem_shapes=problem_shapes,
  make_evaluate=make_evaluate,
)
