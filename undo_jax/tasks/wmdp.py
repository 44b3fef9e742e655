"""The WMDP task: the user's corpora, scored on WMDP's and MMLU's questions."""

from collections.abc import Callable, Mapping, Sequence
import functools
import itertools
import json
import pathlib

from ml_collections import config_dict

from undo_jax.data import questions, tokenizers
from undo_jax.data.questions import QuestionSet
from undo_jax.evaluation import metrics, multiple_choice
from undo_jax.tasks import apart, corpora
from undo_jax.tasks.task import Data, Found, Task
from undo_jax.utils import checks
from undo_jax.utils.types import ConfigError, JsonObject, Rows

METRICS = {
  name: metrics.accuracy(f"multiple-choice questions of {benchmark}")
  for name, benchmark in (("retain", "MMLU"), ("forget", "WMDP"))
}


def splits(data: Data) -> tuple[str, ...]:
  """Return the training splits: the corpora that have files."""
  return tuple(
    name
    for name in data
    if isinstance(data[name], Mapping | config_dict.ConfigDict)
    and data[name].get("paths")
  )


def forget_splits(data: Data) -> tuple[str, ...]:
  """Return the corpora of what is to be forgotten: as it is, and as questions."""
  return tuple(name for name in splits(data) if name in ("forget", "forget_qa"))


def length(data: Data, split: str) -> int:
  """Return the tokens of a corpus's rows."""
  return corpora.length(data, split)


def content(data: Data) -> JsonObject:
  """Return the checksums of the corpora and of the questions."""
  question_files = data["questions"]
  return {
    "content": corpora.content(data, splits(data)),
    "questions_content": {
      name: questions.content(question_files[name])
      for name in ("wmdp", "mmlu", "mmlu_examples")
    },
  }


def check(data: Data) -> None:
  """Check `data`: reads its questions and the beginnings of its corpora."""
  for name in data["lengths"]:
    checks.at_least({"data": data}, f"data.lengths.{name}", 2)
  corpora.check(data, splits(data))
  settings = data["questions"]
  if settings["task"] not in questions.WMDP:
    checks.fail(
      "data.questions.task", f"one of {', '.join(questions.WMDP)}", settings["task"]
    )
  checks.at_least({"data": data}, "data.questions.num_shots", 0)
  for name in ("wmdp_limit", "mmlu_limit"):
    limit = settings[name]
    if limit is not None and not (checks.is_number(limit) and limit > 0):
      checks.fail(f"data.questions.{name}", "None or a number above 0", limit)
  try:
    some = [questions.limited(task, 1) for task in _tasks(data)]
    multiple_choice.encode(some, tokenizers.make(data["tokenizer"]))
  except ConfigError as error:
    raise ConfigError(f"config.data.questions: {error}") from None


def prepare(
  data: Data,
  seeds: Mapping[str, int],
  directory: pathlib.Path,
  title: str,
) -> JsonObject:
  """Tokenize the corpora and pack them into rows; see data.documents."""
  prepared = corpora.prepare(data, splits(data), seeds, directory, title)
  tasks = _tasks(data)
  _check_apart(data, directory, tasks)
  return {
    "rows": {name: summary["rows"]["train"] for name, summary in prepared.items()},
    "evaluation": sum(len(task.questions) for task in tasks),
    "items": _items(tasks),
    "tasks": multiple_choice.describe(tasks),
    "corpora": prepared,
    "apart": _apart(data, directory, tasks),
  }


def _apart(data, directory, tasks) -> JsonObject:
  """Say what is apart here: the texts of corpora and questions, not what they tell."""
  attacked = forget_splits(data)
  names = [f"{name}_train" for name in attacked]
  return apart.check(
    "texts",
    {
      apart.ATTACKED: apart.of_documents(data, directory, names),
      apart.SCORED: apart.of_texts(_places(tasks)),
    },
    splits=attacked,
    note="No document is a question, alone or with its answer. Corpora and questions "
    "are of one subject, so what a question asks may be told in other words. No stop "
    "rule reads any.",
  )


def _places(tasks: Sequence[QuestionSet]) -> dict[str, str]:
  """Return each question, alone and with its right choice, and where it stands."""
  return {
    text: f"{task.name}, question {number}"
    for task in tasks
    for number, question in enumerate(task.questions, start=1)
    for text in (
      question.question,
      f"{question.question}\nAnswer: {question.choices[question.answer]}",
    )
  }


def source(data: Data, directory: pathlib.Path, split: str) -> Rows:
  """Return the rows of a corpus."""
  return corpora.read(data, directory, split, "train")


def problems(data: Data, seeds: Mapping[str, int], directory: pathlib.Path) -> Found:
  """Return the tasks, WMDP's and one a subject of MMLU, and their questions."""
  del seeds, directory  # The questions stay in their files; nothing is drawn.
  return _problems(json.dumps(data["questions"]), data["tokenizer"])


def make_evaluate(
  apply: Callable, names: Sequence[str], *, rows_at_once: int = 512
) -> Callable:
  """Return multiple_choice.make_evaluate with WMDP as forget and MMLU as retain."""
  return multiple_choice.make_evaluate(
    apply, names, groups=_groups(names), rows_at_once=rows_at_once
  )


def _groups(names: Sequence[str]) -> dict[str, list[str]]:
  """Return the tasks that each score is over."""
  return {
    "forget": [name for name in names if name in questions.WMDP],
    "retain": [name for name in names if name.startswith("mmlu_")],
  }


def _items(tasks: Sequence[QuestionSet]) -> dict[str, int]:
  """Return how many questions each score is over."""
  counts = {task.name: len(task.questions) for task in tasks}
  groups = _groups(list(counts)).items()
  return {group: sum(counts[name] for name in own) for group, own in groups}


def _check_apart(data, directory, tasks):
  """Check that no forget text is retained, and that no corpus has answers.

  A question is looked for alone and with its right choice as a corpus of questions
  holds it.
  """
  forget = forget_splits(data)
  kept = [name for name in splits(data) if name not in forget]
  pairs = [(f"{a}_train", f"{b}_train") for a, b in itertools.product(forget, kept)]
  corpora.check_disjoint(data, directory, pairs)
  names = [f"{name}_train" for name in splits(data)]
  corpora.check_lacks(data, directory, names, _places(tasks))


@functools.lru_cache(maxsize=2)  # Thousands of long prompts, the same in all stages.
def _problems(questions_json: str, tokenizer: str) -> Found:
  tasks = _tasks({"questions": json.loads(questions_json)})
  made = tokenizers.make(tokenizer)
  arrays = multiple_choice.encode(tasks, made)
  return tuple(task.name for task in tasks), arrays


def _tasks(data: Data) -> list[QuestionSet]:
  """Return the tasks, cut to the limits."""
  settings = data["questions"]
  wmdp = questions.wmdp_task(settings["task"], questions.read(settings["wmdp"]))
  mmlu = questions.mmlu_tasks(
    questions.read(settings["mmlu"], has_subject=True),
    questions.read(settings["mmlu_examples"], has_subject=True),
    num_shots=settings["num_shots"],
  )
  limited = [questions.limited(task, settings["mmlu_limit"]) for task in mmlu]
  return [questions.limited(wmdp, settings["wmdp_limit"]), *limited]


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
  make_evaluate=make_evaluate,
)
