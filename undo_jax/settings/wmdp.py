"""The WMDP setting: the user's corpora, scored on WMDP's and MMLU's questions."""

from collections.abc import Callable, Mapping, Sequence
import pathlib
from typing import Any

from undo_jax import checks, streams
from undo_jax.data import documents, questions, rows, tokenizers
from undo_jax.data.document_source import Source
from undo_jax.data.questions import Task
from undo_jax.evaluation import multiple_choice
from undo_jax.training.writers import Progress
from undo_jax.types import ConfigError

METRICS: Mapping[str, Mapping[str, Any]] = {
  name: {
    "name": f"multiple-choice questions of {benchmark}",
    "unit": "accuracy",
    "range": [0, 1],
    "higher_is": "more capable",
  }
  for name, benchmark in (("retain", "MMLU"), ("forget", "WMDP"))
}
# The evaluation is sharded over so many devices, or a divisor of it.
MULTIPLE = 64


def splits(data: Any) -> tuple[str, ...]:
  """Returns the training splits: the names of the corpora that have files."""
  return tuple(name for name, corpus in data["corpora"].items() if corpus["paths"])


def length(data: Any, split: str) -> int:
  """Returns the tokens of a split's rows: its own number, or that of all."""
  return data["corpora"][split]["sequence_length"] or data["sequence_length"]


def content(data: Any) -> dict[str, Any]:
  """Returns what the files of the corpora and of the questions hold."""
  asked = data["questions"]
  return {
    "corpora_content": {
      split: documents.fingerprint(_source(data["corpora"][split]))
      for split in splits(data)
    },
    "questions_content": {
      name: questions.content(asked[name]) for name in ("wmdp", "mmlu", "mmlu_examples")
    },
  }


def check(config: Any) -> None:
  """Checks `config.data`: reads its questions and the beginnings of its corpora."""
  data = config.data
  for split in splits(data):
    corpus = data.corpora[split]
    if corpus.sequence_length is not None:
      checks.at_least(config, f"data.corpora.{split}.sequence_length", 2)
    try:
      documents.check(_source(corpus))
    except ConfigError as error:
      raise ConfigError(f"config.data.corpora.{split}: {error}") from None
  asked = data.questions
  if asked.task not in questions.WMDP:
    checks.fail(
      "data.questions.task", f"one of {', '.join(questions.WMDP)}", asked.task
    )
  checks.at_least(config, "data.questions.num_shots", 0)
  for name in ("wmdp_limit", "mmlu_limit"):
    limit = asked[name]
    if limit is not None and not (checks.is_number(limit) and limit > 0):
      checks.fail(f"data.questions.{name}", "None or a number above 0", limit)
  try:
    multiple_choice.encode(_tasks(data), tokenizers.make(data.tokenizer))
  except ConfigError as error:
    raise ConfigError(f"config.data.questions: {error}") from None


def prepare(
  data: Mapping[str, Any],
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> dict[str, Any]:
  """Tokenizes the corpora and packs them into rows; see data.documents."""
  sizes = {}
  for split in splits(data):
    progress = Progress(f"{title}: {split}", total=100, initial=0, unit="percent")

    def report(status, progress=progress):
      progress.note(f"{status.documents} documents, {status.tokens} tokens")

    found = documents.prepare(
      directory / split,
      sources={split: _source(data["corpora"][split])},
      tokenizer=data["tokenizer"],
      length=length(data, split),
      packing=data["packing"],
      seed=streams.integer(seeds["data"], "data"),
      progress=report,
    )
    progress.update(100)
    progress.close()
    sizes[split] = found["sources"][split]["rows"]["train"]
  tasks = _tasks(data)
  return {
    "rows": sizes,
    "evaluation": sum(len(task.questions) for task in tasks),
    "tasks": multiple_choice.describe(tasks),
  }


def source(data: Mapping[str, Any], directory: pathlib.Path, split: str) -> Any:
  """Returns the rows of a corpus."""
  return rows.source(
    directory / split, length=length(data, split), split=f"{split}_train"
  )


def problems(
  data: Mapping[str, Any], seeds: Mapping[str, int], directory: pathlib.Path
) -> tuple[tuple[str, ...], dict[str, Any]]:
  """Returns the tasks, WMDP's and one a subject of MMLU, and their questions."""
  del seeds, directory  # The questions stay in their files; nothing is drawn.
  tasks = _tasks(data)
  tokenizer = tokenizers.make(data["tokenizer"])
  arrays = multiple_choice.encode(tasks, tokenizer, multiple=MULTIPLE)
  return tuple(task.name for task in tasks), arrays


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int = 512
) -> Callable:
  """Returns multiple_choice.make_evaluate with WMDP as forget and MMLU as retain."""
  groups = {
    "forget": [name for name in names if name in questions.WMDP],
    "retain": [name for name in names if name.startswith("mmlu_")],
  }
  return multiple_choice.make_evaluate(
    apply, names, groups=groups, rows_at_once=rows_at_once
  )


def _tasks(data: Any) -> list[Task]:
  """Returns the tasks, cut to the limits."""
  asked = data["questions"]
  wmdp = questions.wmdp_task(asked["task"], questions.read(asked["wmdp"]))
  mmlu = questions.mmlu_tasks(
    questions.read(asked["mmlu"], has_subject=True),
    questions.read(asked["mmlu_examples"], has_subject=True),
    num_shots=asked["num_shots"],
  )
  limited = [questions.limited(task, asked["mmlu_limit"]) for task in mmlu]
  return [questions.limited(wmdp, asked["wmdp_limit"]), *limited]


def _source(corpus: Any) -> Source:
  """Returns a corpus of the config as a source of documents, none held out."""
  options = {name: value for name, value in corpus.items() if name != "sequence_length"}
  return Source(**options, validation_fraction=0.0)
