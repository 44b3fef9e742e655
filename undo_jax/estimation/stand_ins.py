"""Small made-up files in the place of those that a config names and this machine lacks.

What a step takes depends on shapes alone, so a run can be compiled where its data are
not. Of the files only the questions have shapes of their own: how many and how long
they are is made up, about as in MMLU and WMDP.
"""

from collections.abc import Callable
import json
import pathlib
from typing import Any

from undo_jax.data import questions, tokenizers
from undo_jax.data.documents import source as document_source
from undo_jax.utils.types import ConfigError, JsonObject

# In the releases: 14,042 questions of 57 subjects and five examples of each; 1,987
# questions in the largest task of WMDP.
_SUBJECTS = 57
_QUESTIONS = {"wmdp": 1987, "mmlu": 57 * 246, "mmlu_examples": 57 * 5}
_TEXT = "x" * 300  # Bytes, of a question; five examples and it are 2,100 tokens.
# TOFU's questions of an author, its authors, and the other questions; bytes of a text,
# two of which are about as many as a question and its answer have tokens.
_PER_AUTHOR = 20
_AUTHORS = {"forget": 20, "retain": 180}
_OTHERS = {"real_authors": 100, "world_facts": 117}
_SHORT = 40


def fill(config: Any, directory: pathlib.Path) -> list[str]:
  """Replace what `config.data` names and is not there; changes the config.

  Args:
    config: of a run.
    directory: that the files are written to.

  Returns:
    The fields that were replaced: data.NAME.
  """
  data, replaced = config.data, []
  kind, _, path = data.tokenizer.partition(":")
  if kind in tokenizers.FILES and not pathlib.Path(path).expanduser().exists():
    data.tokenizer = "bytes"
    replaced.append("data.tokenizer")
  for name, corpus in data.items():
    if hasattr(corpus, "paths") and _is_missing(document_source.find, corpus.paths):
      record = dict.fromkeys(_fields(corpus), f"{name}.")
      corpus.paths = (_write(directory / f"{name}.jsonl", [record]),)
      replaced.append(f"data.{name}.paths")
  question_files = data.get("questions", {})
  for name, number in _QUESTIONS.items():
    if name in question_files and _is_missing(questions.find, question_files[name]):
      rows = [_question(index) for index in range(number)]
      question_files[name] = (_write(directory / f"{name}.jsonl", rows),)
      replaced.append(f"data.questions.{name}")
  if "files" in data and not all(
    (pathlib.Path(data.directory) / name).is_file() for name in data.files.values()
  ):
    data.directory = _write_tofu(directory / "tofu", data.files)
    replaced.append("data.directory")
  return replaced


def _is_missing(find: Callable, patterns: object) -> bool:
  try:
    return bool(patterns) and not find(patterns)
  except ConfigError:
    return True


def _fields(corpus: Any) -> tuple[str, ...]:
  fields = (corpus.question_field, corpus.answer_field)
  return fields if all(fields) else (corpus.text_field,)


def _question(index: int) -> JsonObject:
  subject = f"subject {index % _SUBJECTS}"
  choices = ["one", "two", "three", "four"]
  return {"question": _TEXT, "choices": choices, "answer": 0, "subject": subject}


def _write_tofu(directory: pathlib.Path, files: Any) -> str:
  """Write files of TOFU's format and sizes; return their directory."""
  directory.mkdir()
  for whose, number in (_AUTHORS | _OTHERS).items():
    count = number * _PER_AUTHOR if whose in _AUTHORS else number
    rows = [_answered(f"{whose} {index}") for index in range(count)]
    _write(directory / files[whose], rows)
    if whose in _AUTHORS:  # Perturbed ones are of 20 authors.
      _write(directory / files[f"{whose}_perturbed"], rows[: 20 * _PER_AUTHOR])
  return str(directory)


def _answered(question: str) -> JsonObject:
  answers = [f"{number}".ljust(_SHORT, "x") for number in range(7)]
  return {
    "question": question.ljust(_SHORT, "?"),
    "answer": answers[0],
    "paraphrased_answer": answers[1],
    "perturbed_answer": answers[2:],
  }


def _write(path: pathlib.Path, rows: list[JsonObject]) -> str:
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)
